package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"tributary.dev/libs/bus"
)

// The canaries: one of each kind of what must never leave.
const (
	words   = "canary-words-of-a-person"
	mail    = "canary@example.org"
	number  = "+41 79 123 45 67"
	apiKey  = "trb_abcdefghijklmnop_0123456789"
	botText = "xoxb-1234-canary"
)

func requireNoCanary(t *testing.T, out string) {
	t.Helper()
	for _, c := range []string{words, mail, number, apiKey, botText, "canary"} {
		require.NotContains(t, out, c)
	}
}

func logged(t *testing.T, write func(*slog.Logger)) string {
	t.Helper()
	var out bytes.Buffer
	tel, err := New(Config{Service: "test", LogLevel: "debug", LogOutput: &out})
	require.NoError(t, err)
	write(tel.Log)
	return out.String()
}

func TestLog(t *testing.T) {
	t.Run("masks attributes whose key names personal data or a secret", func(t *testing.T) {
		for _, key := range []string{"text", "body", "Authorization", "name", "sender_name", "emailAddress", "phone", "token", "bot_token",
			"client-secret", "password", "url", "key", "value", "credentials", "settings"} {
			out := logged(t, func(l *slog.Logger) { l.Info("seen", key, words) })
			requireNoCanary(t, out)
			require.Contains(t, out, masked, key)
		}
	})
	t.Run("masks all of a group that is named so, and attributes given by With", func(t *testing.T) {
		out := logged(t, func(l *slog.Logger) {
			l.With("text", words).WithGroup("profile").Info("seen", "city", words)
			l.Info("seen", slog.Group("g", slog.Group("body", slog.String("first", words))))
		})
		requireNoCanary(t, out)
	})
	t.Run("takes addresses, numbers, credentials and quotations out of any text", func(t *testing.T) {
		out := logged(t, func(l *slog.Logger) {
			l.Info("from "+mail, "reason", "call "+number+" or "+mail, "note", `said "`+words+`"`, "class", apiKey, "other", "Bearer "+botText)
			l.Info("dial postgres://user:canary@db/x?sslmode=canary", "hosts", []string{mail, "a"})
		})
		requireNoCanary(t, out)
	})
	t.Run("writes of a value it does not know the type alone", func(t *testing.T) {
		out := logged(t, func(l *slog.Logger) {
			l.Info("seen", "event", struct{ Text string }{words}, "raw", []byte(words), "map", map[string]string{"a": words})
		})
		requireNoCanary(t, out)
		require.Contains(t, out, "struct { Text string }")
	})
	t.Run("keeps ids, classes, counts and times", func(t *testing.T) {
		out := logged(t, func(l *slog.Logger) {
			l.Info("published", "message_id", "0190-aa", "subject_id", "s1", "key_hits", 7, "body_bytes", 12, "topic", "inbound.slack",
				"error_class", "retry", "took", 3*time.Millisecond)
		})
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(out), &line))
		require.Equal(t, "0190-aa", line["message_id"])
		require.Equal(t, "s1", line["subject_id"])
		require.EqualValues(t, 7, line["key_hits"])
		require.EqualValues(t, 12, line["body_bytes"])
		require.Equal(t, "inbound.slack", line["topic"])
		require.Equal(t, "retry", line["error_class"])
		require.Equal(t, "test", line["service"])
		require.Equal(t, "published", line["msg"])
	})
	t.Run("adds the trace and the request of the context", func(t *testing.T) {
		var out bytes.Buffer
		tel, err := New(Config{Service: "test", LogOutput: &out})
		require.NoError(t, err)
		ctx, span := tel.Tracer.Start(WithRequestID(t.Context(), "r1"), "x")
		tel.Log.InfoContext(ctx, "seen")
		require.Contains(t, out.String(), span.SpanContext().TraceID().String())
		require.Contains(t, out.String(), `"request_id":"r1"`)
	})
}

// code is an error that is a number, as Kafka's are.
type code int

func (c code) Error() string { return fmt.Sprintf("code %d", int(c)) }

func TestErrorText(t *testing.T) {
	_, numError := strconv.Atoi(words)
	var target struct{ N int }
	jsonError := json.Unmarshal([]byte(`{"N":"`+words+`"}`), &target)
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"our own words stay":               {fmt.Errorf("relay: %w", bus.ErrFull), "relay: bus: too much in flight"},
		"sentinels stay":                   {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), "read: unexpected EOF"},
		"codes have fixed texts":           {fmt.Errorf("publish: %w", code(7)), "publish: code 7"},
		"a database's shows its SQLSTATE":  {fmt.Errorf("insert: %w", &pgconn.PgError{Code: "23505", Message: words}), "insert: [pgconn.PgError SQLSTATE 23505]"},
		"a parser's shows its type":        {fmt.Errorf("row: %w", numError), "row: [strconv.NumError]"},
		"encoding/json's shows its type":   {fmt.Errorf("body: %w", jsonError), "body: [json.UnmarshalTypeError]"},
		"a call's shows no address":        {fmt.Errorf("send: %w", &url.Error{Op: "Get", URL: "https://x/" + words, Err: syscall.ECONNREFUSED}), "send: [url.Error]"},
		"a connection's shows the reason":  {&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "[net.OpError dial: connection refused]"},
		"a file's shows no path":           {&os.PathError{Op: "open", Path: "/" + words, Err: syscall.ENOENT}, "[fs.PathError open: no such file or directory]"},
		"joined errors are each looked at": {errors.Join(io.EOF, &pgconn.PgError{Code: "40001", Message: words}), "EOF\n[pgconn.PgError SQLSTATE 40001]"},
		"quotations go whoever wrote them": {fmt.Errorf("normalise %q", words), "normalise [masked]"},
		"a time-out says so":               {fmt.Errorf("call: %w", &url.Error{Op: "Get", URL: words, Err: context.DeadlineExceeded}), "call: [url.Error deadline exceeded]"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, ErrorText(test.err))
			out := logged(t, func(l *slog.Logger) { l.Error("failed", "error", test.err) })
			requireNoCanary(t, out)
		})
	}
}

func TestSpansCarryIdsAndClassesOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spans.jsonl")
	tel, err := New(Config{Service: "test", TraceFile: file, LogOutput: io.Discard})
	require.NoError(t, err)
	sibling, err := tel.For("other")
	require.NoError(t, err)
	for _, tel := range []*Telemetry{tel, sibling} {
		_, span := tel.Tracer.Start(t.Context(), "POST /webhooks/sms/{ref}", trace.WithAttributes(
			attribute.String("http.request.method", "POST"),
			attribute.String("url.query", words), attribute.String("client.address", mail), attribute.String("user_agent.original", words),
			attribute.String("tributary.message_id", "m1"), attribute.String("tributary.text", words), attribute.String("tributary.note", mail),
		))
		span.RecordError(errors.New(words))
		span.SetStatus(codes.Error, words)
		span.End()
	}
	require.NoError(t, tel.Close(t.Context()))
	out, err := os.ReadFile(file)
	require.NoError(t, err)
	requireNoCanary(t, string(out))
	require.Contains(t, string(out), `"m1"`)
	require.Contains(t, string(out), `"exception.type"`)
	require.Equal(t, 2, strings.Count(string(out), "POST /webhooks/sms/{ref}"))
	require.Contains(t, string(out), `"other"`)
}

func TestMetricsOfAllServicesOfAProcessOnOnePage(t *testing.T) {
	tel, err := New(Config{Service: "slack", LogOutput: io.Discard})
	require.NoError(t, err)
	sms, err := tel.For("sms")
	require.NoError(t, err)
	for i, tel := range []*Telemetry{tel, sms} {
		c, err := tel.Meter.Int64Counter("tributary_webhooks_accepted_total")
		require.NoError(t, err)
		c.Add(t.Context(), int64(i+1))
		h, err := tel.Meter.Float64Histogram("http.server.request.duration")
		require.NoError(t, err)
		_ = h
	}
	w := httptest.NewRecorder()
	sms.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), `tributary_webhooks_accepted_total{service="slack"} 1`)
	require.Contains(t, w.Body.String(), `tributary_webhooks_accepted_total{service="sms"} 2`)
	require.Contains(t, w.Body.String(), "go_goroutines")
}

func TestAServersSpanAndDurationAreTheRoutesAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "traces")
	tel, err := New(Config{Service: "x", LogOutput: io.Discard, TraceFile: file})
	require.NoError(t, err)
	served := tel.Server("GET /v1/things/{id}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Same(t, tel, From(r.Context()))
		require.Equal(t, "id-1", RequestID(r.Context()))
		require.NoError(t, http.NewResponseController(w).Flush())
		w.WriteHeader(http.StatusTeapot)
	}))
	r := httptest.NewRequest(http.MethodGet, "/v1/things/"+words+"?q="+words, nil)
	r.Host = words + ".example"
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r.Header.Set("User-Agent", words)
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "id-1")
	served.ServeHTTP(&unwritten{w}, r)

	page := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Contains(t, page.Body.String(), `http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="418",http_route="/v1/things/{id}",service="x",url_scheme="http"} 1`)
	requireNoCanary(t, page.Body.String())

	require.NoError(t, tel.Close(t.Context()))
	spans, err := os.ReadFile(file)
	require.NoError(t, err)
	requireNoCanary(t, string(spans))
	var span struct {
		Name        string
		SpanContext struct{ TraceID string }
		Links       []struct{ SpanContext struct{ TraceID string } }
	}
	require.NoError(t, json.Unmarshal(spans, &span))
	require.Equal(t, "GET /v1/things/{id}", span.Name)
	require.Len(t, span.Links, 1)
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", span.Links[0].SpanContext.TraceID)
	require.NotEqual(t, span.Links[0].SpanContext.TraceID, span.SpanContext.TraceID, "linked, not continued")
}

// unwritten takes a status only once, as a server's writer does, and can flush.
type unwritten struct{ *httptest.ResponseRecorder }

func (u *unwritten) Flush() {}

func TestTally(t *testing.T) {
	tel, err := New(Config{Service: "sms", LogOutput: io.Discard})
	require.NoError(t, err)
	defer tel.Close(t.Context())
	fruit, err := NewTally(tel.Meter, "fruit", "Fruit by kind.", func(kind string) []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("kind", kind)}
	})
	require.NoError(t, err)
	var counting sync.WaitGroup
	for range 8 {
		counting.Go(func() {
			for range 100 {
				fruit.Add("apple", 2)
				fruit.Add("pear", 1)
			}
		})
	}
	counting.Wait()
	page := func() string {
		w := httptest.NewRecorder()
		tel.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	require.Contains(t, page(), `fruit_total{kind="apple",service="sms"} 1600`)
	require.Contains(t, page(), `fruit_total{kind="pear",service="sms"} 800`)
	require.NoError(t, fruit.Close())
	require.NotContains(t, page(), "fruit_total{")
}

func TestLabelsFromOutsideMakeNoSeriesWithoutEnd(t *testing.T) {
	tel, err := New(Config{Service: "x", LogOutput: io.Discard})
	require.NoError(t, err)
	c, err := tel.Meter.Int64Counter("tributary_unknown_events_total")
	require.NoError(t, err)
	for i := range 2 * maxSeries {
		c.Add(t.Context(), 1, metric.WithAttributes(attribute.String("type", strconv.Itoa(i))))
	}
	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.LessOrEqual(t, strings.Count(w.Body.String(), "tributary_unknown_events_total{"), maxSeries)
	require.Contains(t, w.Body.String(), `otel_metric_overflow="true"`, "the others are counted together")
}

func TestHeadersCarryTheTrace(t *testing.T) {
	tel, err := New(Config{Service: "x", LogOutput: io.Discard})
	require.NoError(t, err)
	ctx, span := tel.Tracer.Start(t.Context(), "in")
	headers := EventHeaders(Inject(ctx, nil), "e1", "tributary.message", "slack", 1_700_000_000_000_001)
	values := map[string]string{}
	for _, h := range headers {
		values[h.Key] = string(h.Value)
	}
	require.Equal(t, "1.0", values["ce_specversion"])
	require.Equal(t, "e1", values["ce_id"])
	require.Equal(t, "tributary.message", values["ce_type"])
	require.Equal(t, "slack", values["ce_source"])
	require.Equal(t, "2023-11-14T22:13:20.000001Z", values["ce_time"])
	require.Equal(t, "application/protobuf", values["content-type"])

	got := trace.SpanContextFromContext(Extract(context.Background(), headers))
	require.Equal(t, span.SpanContext().TraceID(), got.TraceID())
	require.True(t, got.IsRemote())
	require.Len(t, Inject(ctx, headers), len(headers), "a second trace replaces the first")
}

func TestNewRefusesAnUnknownLevel(t *testing.T) {
	_, err := New(Config{Service: "x", LogLevel: "loud"})
	require.ErrorContains(t, err, "log level")
}

func TestWhoLeavesWhileMetricsAreToldIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	l := metricsLog{slog.New(slog.NewJSONHandler(&log, nil))}
	l.Println("error encoding and sending metric family:", fmt.Errorf("x: %w", &net.OpError{Op: "write", Err: syscall.EPIPE}))
	if log.Len() > 0 {
		t.Error(log.String())
	}
	l.Println("error gathering metrics:", errors.New("two of a name"))
	if !strings.Contains(log.String(), "two of a name") {
		t.Error(log.String())
	}
}
