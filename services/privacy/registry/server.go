package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// maxConnections is more than all replicas of all services have.
const maxConnections = 1024

// callWithin bounds a call that came without a deadline, or with a later one.
const callWithin = 5 * time.Second

// NewServer makes the gRPC server of the registry. Who calls, and what for, access decides; see Access.
func (r *Registry) NewServer(access *Access, opts ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(access.creds),
		grpc.ChainUnaryInterceptor(r.recovered, r.authorised(access)),
		//bound:limit a call of the registry | {bytes} | refused
		grpc.MaxRecvMsgSize(4 << 20),
		//bound:limit calls of the registry under way, of a connection | {} | the client waits
		grpc.MaxConcurrentStreams(1024),
		//bound:timeout the handshake with the registry | {} | the connection is closed
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		//bound:timeout a client's answer to a ping | {} | the connection is closed
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 5 * time.Second}),
	}, opts...)...)
	pb.RegisterKeyRegistryServer(s, &server{r: r})
	return s
}

// Serve serves on l until ctx ends; calls under way then have 5 s.
func Serve(ctx context.Context, s *grpc.Server, l net.Listener) error {
	//bound:exempt receives once
	served := make(chan error, 1)
	//bound:exempt one a server, and waited for
	go func() {
		//bound:goroutines connections to the registry | {maxConnections} | the next waits to be accepted
		served <- s.Serve(netutil.LimitListener(l, maxConnections))
	}()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	//bound:timeout calls of the registry under way when it stops | {} | cut off
	hard := time.AfterFunc(callWithin, s.Stop)
	defer hard.Stop()
	s.GracefulStop()
	return <-served
}

type server struct {
	pb.UnimplementedKeyRegistryServer
	r *Registry
}

// Acquire implements pb.KeyRegistryServer.
func (s *server) Acquire(ctx context.Context, in *pb.AcquireRequest) (*pb.AcquireResponse, error) {
	if err := count("items", len(in.GetItems())); err != nil {
		return nil, err
	}
	acts := make([]act, len(in.GetItems()))
	for i, item := range in.GetItems() {
		id, err := identityOf(item.GetIdentity(), fmt.Sprintf("items[%d].identity", i))
		if err != nil {
			return nil, err
		}
		if item.GetActedAtUs() < 0 {
			return nil, invalid(fmt.Sprintf("items[%d].acted_at_us", i), "must not be negative")
		}
		acts[i] = act{id, item.GetActedAtUs()}
	}
	subjects, err := s.r.acquire(ctx, acts)
	if err != nil {
		return nil, s.fault(ctx, "Acquire", err)
	}
	s.r.answered(ctx, "Acquire", subjects)
	return &pb.AcquireResponse{Subjects: subjects, NowUs: s.r.now().UnixMicro()}, nil
}

// Find implements pb.KeyRegistryServer.
func (s *server) Find(ctx context.Context, in *pb.FindRequest) (*pb.FindResponse, error) {
	if err := count("identities", len(in.GetIdentities())); err != nil {
		return nil, err
	}
	ids := make([]identity, len(in.GetIdentities()))
	for i, given := range in.GetIdentities() {
		var err error
		if ids[i], err = identityOf(given, fmt.Sprintf("identities[%d]", i)); err != nil {
			return nil, err
		}
	}
	subjects, err := s.r.find(ctx, ids)
	if err != nil {
		return nil, s.fault(ctx, "Find", err)
	}
	s.r.answered(ctx, "Find", subjects)
	return &pb.FindResponse{Subjects: subjects, NowUs: s.r.now().UnixMicro()}, nil
}

// Unwrap implements pb.KeyRegistryServer.
func (s *server) Unwrap(ctx context.Context, in *pb.UnwrapRequest) (*pb.UnwrapResponse, error) {
	if err := count("key_ids", len(in.GetKeyIds())); err != nil {
		return nil, err
	}
	for i, id := range in.GetKeyIds() {
		if !seal.ValidID(id) {
			return nil, invalid(fmt.Sprintf("key_ids[%d]", i), "is not an id")
		}
	}
	if in.GetWorkspaceId() != "" && !seal.ValidID(in.GetWorkspaceId()) {
		return nil, invalid("workspace_id", "is not an id")
	}
	subjects, err := s.r.unwrap(ctx, in.GetKeyIds(), in.GetPurpose(), in.GetWorkspaceId())
	if err != nil {
		return nil, s.fault(ctx, "Unwrap", err)
	}
	s.r.answered(ctx, "Unwrap", subjects)
	return &pb.UnwrapResponse{Subjects: subjects, NowUs: s.r.now().UnixMicro()}, nil
}

// OpenSpool implements pb.KeyRegistryServer.
func (s *server) OpenSpool(ctx context.Context, in *pb.OpenSpoolRequest) (*pb.OpenSpoolResponse, error) {
	if err := count("items", len(in.GetItems())); err != nil {
		return nil, err
	}
	for i, item := range in.GetItems() {
		if !seal.ValidID(item.GetSpoolKeyId()) {
			return nil, invalid(fmt.Sprintf("items[%d].spool_key_id", i), "is not an id")
		}
	}
	items, err := s.r.openSpool(ctx, in.GetItems())
	if err != nil {
		return nil, s.fault(ctx, "OpenSpool", err)
	}
	return &pb.OpenSpoolResponse{Items: items, NowUs: s.r.now().UnixMicro()}, nil
}

// Now implements pb.KeyRegistryServer.
func (s *server) Now(context.Context, *pb.NowRequest) (*pb.NowResponse, error) {
	return &pb.NowResponse{NowUs: s.r.now().UnixMicro()}, nil
}

// fault logs what went wrong and tells the caller no more than whether to ask again.
func (s *server) fault(ctx context.Context, method string, err error) error {
	if cause := ctx.Err(); cause != nil {
		return status.FromContextError(cause).Err()
	}
	s.r.log.ErrorContext(ctx, "registry call failed", "method", method, "error", err)
	if errors.Is(err, errSealed) {
		return status.Error(codes.DataLoss, "a key does not open")
	}
	return status.Error(codes.Unavailable, "the registry can't answer")
}

func identityOf(in *pb.Identity, field string) (identity, error) {
	switch {
	case !seal.ValidID(in.GetWorkspaceId()):
		return identity{}, invalid(field+".workspace_id", "is not an id")
	case !seal.ValidID(in.GetKind()):
		return identity{}, invalid(field+".kind", "is not a kind")
	case !seal.ValidValue(in.GetValue()):
		return identity{}, invalid(field+".value", "is empty, too long or not text")
	}
	return identity{in.GetWorkspaceId(), in.GetKind(), in.GetValue()}, nil
}

func count(field string, n int) error {
	if n == 0 || n > seal.MaxItems {
		return invalid(field, fmt.Sprintf("must have 1 to %d entries", seal.MaxItems))
	}
	return nil
}

// invalid names the field and never its value.
func invalid(field, why string) error {
	return status.Errorf(codes.InvalidArgument, "%s: %s", field, why)
}

func (r *Registry) answered(ctx context.Context, method string, subjects []*pb.SubjectKey) {
	n := map[pb.SubjectState]int64{}
	for _, s := range subjects {
		n[s.GetState()]++
	}
	for state, k := range n {
		r.meters.answers.Add(ctx, k, metric.WithAttributes(attribute.String("method", method), attribute.String("state", state.String())))
	}
}

// recovered turns a panic into an error of that one call.
func (r *Registry) recovered(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			// Not p itself: it may hold what the caller sent.
			r.log.ErrorContext(ctx, "registry call panicked", "method", info.FullMethod, "panic", fmt.Sprintf("%T", p))
			out, err = nil, status.Error(codes.Internal, "the registry can't answer")
		}
	}()
	return next(ctx, in)
}
