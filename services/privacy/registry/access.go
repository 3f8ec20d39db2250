package registry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// AccessConfig says who may call the registry.
type AccessConfig struct {
	// Tokens, "service:token,service:token". A service may have two while one is replaced. With mutual TLS
	// a certificate's common name is the service instead.
	Tokens string `env:"TRIBUTARY_REGISTRY_TOKENS" doc:"who may call, by which token: service:token,service:token; a service may have two"`
	// Rate bounds what each service may ask for, in items a second; it may ask for as many at once.
	Rate int `env:"TRIBUTARY_REGISTRY_RATE" doc:"items a second that each service may ask for"`
	// CertFile and KeyFile switch TLS on; with ClientCAFile callers must have certificates of that CA.
	CertFile     string `env:"TRIBUTARY_REGISTRY_SERVER_CERT" doc:"certificate of the registry; with it TLS is on"`
	KeyFile      string `env:"TRIBUTARY_REGISTRY_SERVER_KEY" doc:"its key"`
	ClientCAFile string `env:"TRIBUTARY_REGISTRY_CLIENT_CA" doc:"CA of the services' certificates; with it they stand for tokens"`
	// Services that may call by certificate, "service,service".
	Services string `env:"TRIBUTARY_REGISTRY_SERVICES" doc:"services that may call by certificate: service,service"`
}

// DefaultAccess has nobody call.
func DefaultAccess() AccessConfig { return AccessConfig{Rate: 20_000} }

// grants are what one service may do.
type grants struct {
	methods  []string
	purposes []pb.Purpose
}

// grantsOf by the service's name. Every name that is not a service of the mesh's own is a channel's
// adapter: a new channel needs no change here.
func grantsOf(service string) grants {
	switch service {
	case "conversation":
		return grants{
			methods:  []string{"Acquire", "Find", "Unwrap"},
			purposes: []pb.Purpose{pb.Purpose_PURPOSE_CONVERSATION, pb.Purpose_PURPOSE_SEARCH, pb.Purpose_PURPOSE_STORAGE},
		}
	case "privacy":
		return grants{
			methods:  []string{"Find", "Unwrap"},
			purposes: []pb.Purpose{pb.Purpose_PURPOSE_RIGHTS, pb.Purpose_PURPOSE_STORAGE, pb.Purpose_PURPOSE_LEGAL},
		}
	case "connect":
		return grants{}
	}
	return grants{
		methods:  []string{"Acquire", "Find", "Unwrap", "OpenSpool"},
		purposes: []pb.Purpose{pb.Purpose_PURPOSE_DELIVERY, pb.Purpose_PURPOSE_STORAGE},
	}
}

// Access decides who calls and what for. Whoever is not known is refused.
type Access struct {
	creds    credentials.TransportCredentials
	byCert   bool
	tokens   []token
	services map[string]*caller
}

type token struct {
	hash    [sha256.Size]byte
	service string
}

type caller struct {
	service string
	grants
	limit *rate.Limiter
}

// minToken is the shortest token taken: 128 bits in hex.
const minToken = 32

// NewAccess joins all faults of the settings.
func NewAccess(cfg AccessConfig) (*Access, error) {
	var faults []error
	fault := func(setting, why string) { faults = append(faults, fmt.Errorf("%s: %s", setting, why)) }
	a := &Access{creds: insecure.NewCredentials(), services: map[string]*caller{}}
	if cfg.Rate < seal.MaxItems {
		fault("TRIBUTARY_REGISTRY_RATE", fmt.Sprintf("must be at least %d: one full call", seal.MaxItems))
	}
	allow := func(service string) {
		if a.services[service] == nil {
			//bound:limit identities and keys that a service may ask for | {TRIBUTARY_REGISTRY_RATE} a second, and as many at once | the call waits, within its time-out
			a.services[service] = &caller{service, grantsOf(service), rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Rate)}
		}
	}
	for i, entry := range split(cfg.Tokens) {
		service, secret, ok := strings.Cut(entry, ":")
		if !ok || !seal.ValidID(service) || len(secret) < minToken {
			fault("TRIBUTARY_REGISTRY_TOKENS", fmt.Sprintf("entry %d is not service:token with a token of at least %d characters", i+1, minToken))
			continue
		}
		h := sha256.Sum256([]byte(secret))
		if slices.ContainsFunc(a.tokens, func(t token) bool { return t.hash == h && t.service != service }) {
			fault("TRIBUTARY_REGISTRY_TOKENS", fmt.Sprintf("entry %d repeats the token of another service", i+1))
		}
		a.tokens = append(a.tokens, token{h, service})
		allow(service)
	}
	if cfg.CertFile != "" || cfg.KeyFile != "" || cfg.ClientCAFile != "" {
		t, err := cfg.tls()
		if err != nil {
			faults = append(faults, err)
		} else {
			a.creds = credentials.NewTLS(t)
		}
	}
	if cfg.ClientCAFile != "" {
		a.byCert = true
		for _, service := range split(cfg.Services) {
			allow(service)
		}
	} else if cfg.Services != "" {
		fault("TRIBUTARY_REGISTRY_SERVICES", "needs TRIBUTARY_REGISTRY_CLIENT_CA")
	}
	return a, errors.Join(faults...)
}

// authorised lets a call through that its service may make, at its rate.
func (r *Registry) authorised(access *Access) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		//bound:timeout a call of the registry, at the registry | {} | it fails
		ctx, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		c := access.caller(ctx)
		service := "unknown"
		err := status.Error(codes.Unauthenticated, "no service has this token or certificate")
		if c != nil {
			service, err = c.service, c.allows(ctx, path.Base(info.FullMethod), in)
		}
		if err != nil {
			r.meters.refusals.Add(ctx, 1, metric.WithAttributes(attribute.String("service", service), attribute.String("code", status.Code(err).String())))
			return nil, err
		}
		return next(ctx, in)
	}
}

// caller is nil when nobody is known by what the call carries.
func (a *Access) caller(ctx context.Context) *caller {
	if a.byCert {
		p, _ := peer.FromContext(ctx)
		if p == nil {
			return nil
		}
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok || len(info.State.VerifiedChains) == 0 {
			return nil
		}
		return a.services[info.State.VerifiedChains[0][0].Subject.CommonName]
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return nil
	}
	secret, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok {
		return nil
	}
	h := sha256.Sum256([]byte(secret))
	var found *caller
	for _, t := range a.tokens { // all of them, whichever it is
		if subtle.ConstantTimeCompare(t.hash[:], h[:]) == 1 {
			found = a.services[t.service]
		}
	}
	return found
}

func (c *caller) allows(ctx context.Context, method string, in any) error {
	if method != "Now" && !slices.Contains(c.methods, method) { // the time is nobody's secret
		return status.Errorf(codes.PermissionDenied, "%s may not call %s", c.service, method)
	}
	items := 1
	switch in := in.(type) {
	case *pb.AcquireRequest:
		items = len(in.GetItems())
	case *pb.FindRequest:
		items = len(in.GetIdentities())
	case *pb.OpenSpoolRequest:
		items = len(in.GetItems())
	case *pb.UnwrapRequest:
		items = len(in.GetKeyIds())
		if !slices.Contains(c.purposes, in.GetPurpose()) {
			return status.Errorf(codes.PermissionDenied, "purpose: %s may not name %s", c.service, in.GetPurpose())
		}
	}
	// Waits its turn as long as the caller does. Batches beyond the bound are refused by their size.
	if err := c.limit.WaitN(ctx, min(max(items, 1), seal.MaxItems)); err != nil {
		return status.Error(codes.ResourceExhausted, "too much is asked for at once")
	}
	return nil
}

func (cfg AccessConfig) tls() (*tls.Config, error) {
	if _, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
		return nil, fmt.Errorf("TRIBUTARY_REGISTRY_SERVER_CERT, TRIBUTARY_REGISTRY_SERVER_KEY: %w", err)
	}
	t := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Read anew for each connection, so that a renewed certificate is taken up.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
			return &pair, err
		},
	}
	if cfg.ClientCAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(cfg.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("TRIBUTARY_REGISTRY_CLIENT_CA: %w", err)
	}
	t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("TRIBUTARY_REGISTRY_CLIENT_CA: holds no certificate")
	}
	return t, nil
}

// split splits a list at commas, leaving empty entries out.
func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
}
