package ingress

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// ServeHTTP takes one request in: /webhooks/<channel>/{ref}.
func (in *Ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A provider that hangs up gets no answer, but what it sent is kept all the same.
	ctx := context.WithoutCancel(r.Context())
	reply, err := in.take(ctx, w, r)
	if err != nil {
		code := "internal"
		var p *problem.Problem
		if errors.As(err, &p) {
			code = p.Code
		}
		trace.SpanFromContext(ctx).SetAttributes(attribute.String("tributary.refused_code", code))
		in.metrics.add(ctx, in.metrics.refused, 1, reason(code))
		problem.Write(ctx, w, err)
		return
	}
	in.metrics.accepted.Add(struct{}{}, 1)
	if reply.ContentType != "" {
		w.Header().Set("Content-Type", reply.ContentType)
	}
	w.WriteHeader(max(reply.Status, http.StatusOK))
	if len(reply.Body) > 0 {
		_, _ = w.Write(reply.Body)
	}
}

// take is the way of a request; an error is a problem.Problem.
func (in *Ingress) take(ctx context.Context, w http.ResponseWriter, r *http.Request) (channel.Reply, error) {
	arrived, received, local := time.Now(), in.Clock.Now(), in.Clock.Sent()
	challenger, challenges := in.Adapter.(channel.Challenger)
	if taken := r.Method == http.MethodPost || r.Method == http.MethodGet && challenges; !taken {
		return channel.Reply{}, refused(http.StatusMethodNotAllowed, "method_not_allowed", "This path does not take that method")
	}
	body, err := in.body(w, r)
	defer in.bodies.leave(body)
	if err != nil {
		return channel.Reply{}, err
	}
	// Only now: who sends slowly keeps nobody out.
	select {
	case in.requests <- struct{}{}:
		defer func() { <-in.requests }()
	default:
		return channel.Reply{}, unavailable("busy")
	}
	from, err := in.source(ctx, r.PathValue("ref"), arrived)
	if err != nil {
		return channel.Reply{}, err
	}
	if from.ended {
		in.metrics.add(ctx, in.metrics.unconnected, 1, reason("disabled"))
		return channel.Reply{}, nil
	}
	req := &channel.Request{
		Method: r.Method, Ref: r.PathValue("ref"), URL: in.urls.of(r), Header: r.Header, Body: body,
		ReceivedAt: received, LocalTime: local, AppID: from.app.GetExternalId(), VerifyToken: from.verifyToken, Settings: from.connection.GetSettings(), Account: from.connection.GetExternalId(),
	}
	if r.Method == http.MethodGet {
		reply, ok, err := challenger.Challenge(req, from.secrets)
		if err != nil || !ok {
			return channel.Reply{}, refused(http.StatusForbidden, "challenge", "This handshake is not ours")
		}
		return reply, nil
	}
	if err := in.Adapter.Verify(req, from.secrets); err != nil {
		return channel.Reply{}, refused(http.StatusUnauthorized, "unverified", "The signature is not valid")
	}
	if challenges {
		reply, ok, err := challenger.Challenge(req, from.secrets)
		if err != nil {
			return channel.Reply{}, malformed(err)
		}
		if ok {
			return reply, nil
		}
	}
	result, err := in.Adapter.Normalise(req)
	if err != nil {
		return channel.Reply{}, malformed(err)
	}
	return result.Reply, in.accept(ctx, from, result, arrived, received)
}

// accept makes the events of a request durable. Those of accounts that are not known wait for the others:
// they alone may have to be sent again.
func (in *Ingress) accept(ctx context.Context, from source, result channel.Result, arrived, received time.Time) error {
	for _, t := range result.Unknown {
		in.metrics.add(ctx, in.metrics.unknown, 1, typed(t))
	}
	for _, class := range result.Faults {
		in.metrics.add(ctx, in.metrics.faults, 1, reason(class))
	}
	traced := telemetry.Inject(ctx, nil)
	var one [1]*pb.Connection
	items := func(events []channel.Event, confirmed bool) (known []item, unknown []channel.Event) {
		for _, e := range events {
			of := in.connections(one[:0], from, e)
			// That those are all that somebody granted shows only once accounts are confirmed.
			if len(of) == 0 || e.Grantor != "" && !confirmed {
				unknown = append(unknown, e)
				continue
			}
			for _, conn := range of {
				if conn.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_DISABLED {
					in.metrics.add(ctx, in.metrics.unconnected, 1, reason("disabled"))
					continue
				}
				known = append(known, item{
					Workspace: conn.GetWorkspaceId(), Connection: conn.GetId(), Event: legible(e),
					ReceivedAt: received, SignedAt: actedAt(e, result), Trace: traced,
				})
			}
		}
		return known, unknown
	}
	known, unknown := items(result.Events, false)
	if err := in.deliver(ctx, known); err != nil {
		return err
	}
	if len(unknown) == 0 {
		return nil
	}
	if err := in.confirm(ctx, arrived); err != nil {
		return err
	}
	known, unknown = items(unknown, true)
	in.metrics.add(ctx, in.metrics.unconnected, len(unknown), reason("unknown"))
	return in.deliver(ctx, known)
}

// actedAt is when somebody acted, by a time that the provider signed.
func actedAt(e channel.Event, result channel.Result) time.Time {
	if !e.ActedAt.IsZero() {
		return e.ActedAt
	}
	return result.SignedAt
}

// source is what a ref names.
type source struct {
	app        *pb.App        // where ref names one
	connection *pb.Connection // where ref names one
	secrets    channel.Secrets
	// verifyToken of the app.
	verifyToken string
	// ended: the connection was disconnected, and its credentials are gone.
	ended bool
}

// source finds what ref names. An unknown one is 404 only once it is sure that it was unknown when the
// request arrived.
func (in *Ingress) source(ctx context.Context, ref string, arrived time.Time) (source, error) {
	find := in.appSource
	if in.Features.Ref == "connection" {
		find = in.connectionSource
	}
	from, ok, err := find(ctx, ref)
	if ok || err != nil {
		return from, err
	}
	select {
	case in.strangers <- struct{}{}:
		defer func() { <-in.strangers }()
	default:
		return source{}, unavailable("busy")
	}
	if err := in.confirm(ctx, arrived); err != nil {
		return source{}, err
	}
	if from, ok, err = find(ctx, ref); !ok && err == nil {
		err = problem.NotFound("webhook")
	}
	return from, err
}

func (in *Ingress) appSource(_ context.Context, name string) (source, bool, error) {
	a, ok := in.Accounts.App(name)
	if !ok {
		return source{}, false, nil
	}
	if len(a.SigningSecrets) == 0 {
		return source{}, true, unavailable("secrets")
	}
	return source{app: a.App, secrets: a.SigningSecrets, verifyToken: a.VerifyToken}, true, nil
}

func (in *Ingress) connectionSource(ctx context.Context, id string) (source, bool, error) {
	c, ok := in.Accounts.Connection(id)
	if !ok {
		return source{}, false, nil
	}
	from := source{connection: c}
	if c.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_DISABLED {
		from.ended = true
		return from, true, nil
	}
	conn, err := in.Accounts.Opened(ctx, c)
	if err == nil {
		for _, name := range in.Features.For(c.GetSettings()).SignedWith {
			if s := conn.Credentials[name]; s != "" {
				from.secrets = append(from.secrets, s)
			}
		}
	}
	if len(from.secrets) > 0 {
		return from, true, nil
	}
	if len(c.GetSealedCredentials()) == 0 && c.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_REVOKED {
		from.ended = true
		return from, true, nil
	}
	return source{}, true, unavailable("secrets")
}

// connections appends those that an event is of: its account's, or each that its grantor granted. An account counts
// only if it was connected through the app whose secret signed: one app's secret says nothing about another's accounts.
func (in *Ingress) connections(of []*pb.Connection, from source, e channel.Event) []*pb.Connection {
	switch {
	case from.connection != nil:
		return append(of, from.connection)
	case e.Grantor != "":
		for _, c := range in.Accounts.GrantedBy(e.Grantor) {
			if from.connected(c) {
				of = append(of, c)
			}
		}
		return of
	}
	if c, ok := in.Accounts.ByAccount(e.Account); ok && from.connected(c) {
		of = append(of, c)
	}
	return of
}

// connected tells whether a connection was made through the app.
func (s source) connected(c *pb.Connection) bool {
	owners := []string{"", c.GetWorkspaceId()}
	return c.GetAppId() == s.app.GetId() || c.GetAppId() == "" && slices.Contains(owners, s.app.GetWorkspaceId())
}

// confirm that accounts are known as of arrived.
func (in *Ingress) confirm(ctx context.Context, arrived time.Time) error {
	//bound:timeout knowing whether an account is known | {Config.ConfirmBudget} | 503
	ctx, cancel := context.WithTimeout(ctx, in.cfg.ConfirmBudget)
	defer cancel()
	if in.Accounts.Confirm(ctx, arrived) != nil {
		return unavailable("accounts")
	}
	return nil
}

func refused(status int, code, title string) error {
	return &problem.Problem{Status: status, Code: code, Title: title}
}

// unavailable is a 503 that asks the provider to send again; what is a word for metrics.
func unavailable(what string) error {
	return &problem.Problem{
		Status: http.StatusServiceUnavailable, Code: "unavailable_" + what, Title: "Not available for now",
		RetryAfter: 5 * time.Second,
	}
}

// malformed names an adapter's class; other errors may quote the body.
func malformed(err error) error {
	code := "malformed"
	var e *channel.Error
	if errors.As(err, &e) && e.Code != "" {
		code = label(e.Code)
	}
	return refused(http.StatusBadRequest, code, "The request is not what its content type promises")
}
