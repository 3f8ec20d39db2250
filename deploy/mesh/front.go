package mesh

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// front routes by path to the replicas that say that they are ready, one after the other, as a Service of
// Kubernetes does. It hides no fault: whatever a replica was given is not given to another, and one that
// refuses a connection is a 502.
type front struct {
	server *http.Server
	pools  map[string]*pool // by service

	stop    context.CancelFunc
	looking sync.WaitGroup
}

// pool is a service's replicas, asked each in turn.
type pool struct {
	replicas []*replica
	turn     atomic.Uint64
}

// replica as the front sees it.
type replica struct {
	process *Process
	ready   atomic.Bool
	proxy   *httputil.ReverseProxy
}

const (
	// lookEvery is how often a replica is asked whether it is ready, and lookFor how long for.
	lookEvery = 250 * time.Millisecond
	lookFor   = time.Second
)

// newFront serves on a listener. The processes are those behind it, the first service's getting every path
// that no other has.
func newFront(l net.Listener, processes []*Process) (*front, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &front{pools: map[string]*pool{}, stop: stop}
	for _, s := range services() {
		f.pools[s.name] = &pool{}
	}
	// A connection for each request: on one that is kept a request may meet its end, and be sent again unseen.
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}
	for _, p := range processes {
		target, err := url.Parse(p.URL)
		if err != nil {
			stop()
			return nil, err
		}
		r := &replica{process: p, proxy: &httputil.ReverseProxy{
			Transport: transport,
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
			ErrorLog:  log.New(io.Discard, "", 0), // whoever asks is told
		}}
		p.front = f
		f.pools[p.Service].replicas = append(f.pools[p.Service].replicas, r)
		f.looking.Go(func() { f.look(ctx, r) })
	}
	mux := http.NewServeMux()
	for i, s := range services() {
		to := f.to(s.name)
		for _, path := range s.paths {
			mux.Handle(path, to)
			if !strings.HasSuffix(path, "/") {
				mux.Handle(path+"/", to)
			}
		}
		if i == 0 {
			mux.Handle("/", to)
		}
	}
	f.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = f.server.Serve(l) }() // ends with close
	return f, nil
}

func (f *front) close() error {
	f.stop()
	f.looking.Wait()
	return f.server.Close()
}

// look keeps a replica's readiness.
func (f *front) look(ctx context.Context, r *replica) {
	client := &http.Client{Timeout: lookFor}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		r.ready.Store(isReady(ctx, client, r.process.URL))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func isReady(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// routes tells whether a process is given requests.
func (f *front) routes(p *Process) bool {
	for _, r := range f.pools[p.Service].replicas {
		if r.process == p {
			return r.ready.Load()
		}
	}
	return false
}

// pick a ready replica of a service, each in turn; nil: none is.
func (f *front) pick(service string) *replica {
	p := f.pools[service]
	from := p.turn.Add(1)
	for i := range p.replicas {
		if r := p.replicas[(from+uint64(i))%uint64(len(p.replicas))]; r.ready.Load() {
			return r
		}
	}
	return nil
}

func (f *front) to(service string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r := f.pick(service)
		if r == nil {
			http.Error(w, "no replica of "+service+" is ready", http.StatusServiceUnavailable)
			return
		}
		r.proxy.ServeHTTP(w, req)
	})
}

var errNoReplica = errors.New("no replica is ready")

// dialRegistry connects to the key registry of a replica that is ready.
func (f *front) dialRegistry(ctx context.Context) (net.Conn, error) {
	r := f.pick(registryService)
	if r == nil {
		return nil, errNoReplica
	}
	r.process.mu.Lock()
	addr := r.process.env["TRIBUTARY_REGISTRY_LISTEN"]
	r.process.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}
