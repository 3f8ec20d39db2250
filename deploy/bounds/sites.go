package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"strings"

	"golang.org/x/tools/go/packages"
)

// made is what a call makes that needs a bound.
type made struct {
	what  string
	kinds []string
	value int // index of the argument that is the bound; -1: none
}

var (
	forChannels   = []string{"queue", "limit"}
	forGoroutines = []string{"goroutines"}
	forGrowth     = []string{"cache", "queue", "limit"}
	forTime       = []string{"timeout", "retry"}
	forPools      = []string{"pool", "limit"}
	forLimits     = []string{"limit"}
)

// calls that need a bound, by the callee's full name.
var calls = map[string]made{
	"context.WithTimeout":      {"a time-out", forTime, 1},
	"context.WithTimeoutCause": {"a time-out", forTime, 1},
	"context.WithDeadline":     {"a time-out", forTime, 1},
	"time.After":               {"a timer", forTime, 0},
	"time.AfterFunc":           {"a timer", forTime, 0},
	"time.NewTimer":            {"a timer", forTime, 0},
	"time.Sleep":               {"a pause", forTime, 0},

	"database/sql.Open":                     {"a pool", forPools, -1},
	"database/sql.OpenDB":                   {"a pool", forPools, -1},
	"github.com/jackc/pgx/v5/stdlib.OpenDB": {"a pool", forPools, -1},
	"(*database/sql.DB).SetConnMaxIdleTime": {"a time-out", forTime, 0},
	"(*database/sql.DB).SetConnMaxLifetime": {"a time-out", forTime, 0},

	"(*net/http.Server).Serve":                          {"a goroutine for each connection", forGoroutines, -1},
	"(*net/http.Server).ServeTLS":                       {"a goroutine for each connection", forGoroutines, -1},
	"(*net/http.Server).ListenAndServe":                 {"a goroutine for each connection", forGoroutines, -1},
	"(*net/http.Server).ListenAndServeTLS":              {"a goroutine for each connection", forGoroutines, -1},
	"(*google.golang.org/grpc.Server).Serve":            {"a goroutine for each connection", forGoroutines, -1},
	"(*github.com/segmentio/kafka-go.Generation).Start": {"a goroutine", forGoroutines, -1},

	"google.golang.org/grpc.ConnectionTimeout":    {"a time-out", forTime, 0},
	"google.golang.org/grpc.MaxConcurrentStreams": {"a limit", forLimits, 0},
	"google.golang.org/grpc.MaxRecvMsgSize":       {"a limit", forLimits, 0},
	"google.golang.org/grpc.MaxCallRecvMsgSize":   {"a limit", forLimits, 0},

	"go.opentelemetry.io/otel/sdk/trace.NewBatchSpanProcessor": {"a queue", []string{"queue"}, -1},
	"go.opentelemetry.io/otel/sdk/trace.WithExportTimeout":     {"a time-out", forTime, 0},

	"net/http.MaxBytesReader": {"a limit", forLimits, 2},
	"io.ReadAll":              {"a stream read to its end", forLimits, -1},

	"github.com/maypok86/otter/v2.New":                     {"a cache", []string{"cache"}, -1},
	"github.com/maypok86/otter/v2.Must":                    {"a cache", []string{"cache"}, -1},
	"golang.org/x/time/rate.NewLimiter":                    {"a limiter", forLimits, -1},
	"golang.org/x/sync/semaphore.NewWeighted":              {"a limiter", forLimits, 0},
	"github.com/cenkalti/backoff/v5.NewExponentialBackOff": {"a retry", []string{"retry"}, -1},
	"github.com/cenkalti/backoff/v5.Retry":                 {"a retry", []string{"retry"}, -1},
}

// needed are fields without which a literal waits for ever, unless something else bounds it.
var needed = map[string][]string{
	"net/http.Client": {"Timeout"},
	"net/http.Server": {"ReadHeaderTimeout", "IdleTimeout"},
	"net.Dialer":      {"Timeout"},
}

// unbounded are variables with no time-out at all.
var unbounded = map[string]string{"net/http.DefaultClient": "has no time-out", "net/http.DefaultTransport": "has no time-out for an answer"}

// limiting are names of whole numbers that bound something in the types of other modules.
var limiting = regexp.MustCompile(`^(Max|Batch|Queue)|Attempts$`)

// findSites finds all but what grows.
func (t *tree) findSites(pkg *packages.Package, file *ast.File) {
	ast.PreorderStack(file, nil, func(n ast.Node, stack []ast.Node) bool {
		if c := t.callerAround(pkg, stack); c != nil {
			before := len(t.sites)
			t.siteAt(pkg, n, stack)
			c.used = c.used || len(t.sites) > before
			t.sites = t.sites[:before]
			return true
		}
		t.siteAt(pkg, n, stack)
		return true
	})
}

// callerAround is the comment that passes the bounds of the function around on to its callers.
func (t *tree) callerAround(pkg *packages.Package, stack []ast.Node) *comment {
	for _, n := range stack {
		if f, ok := n.(*ast.FuncDecl); ok {
			return t.callers[pkg.TypesInfo.Defs[f.Name].(*types.Func)]
		}
	}
	return nil
}

func (t *tree) siteAt(pkg *packages.Package, n ast.Node, stack []ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt:
		t.site(site{pkg: pkg, pos: n.Pos(), what: "a goroutine", kinds: forGoroutines})
	case *ast.CallExpr:
		t.callAt(pkg, n, stack)
	case *ast.CompositeLit:
		t.literalAt(pkg, n)
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if field := foreignField(pkg, left); field != nil && bounding(field) && len(n.Lhs) == len(n.Rhs) {
				t.site(site{pkg: pkg, pos: left.Pos(), what: field.Name(), kinds: kindsOf(field), value: n.Rhs[i]})
			}
		}
	case *ast.ValueSpec:
		if gen, ok := stack[len(stack)-1].(*ast.GenDecl); ok && gen.Tok == token.CONST && len(n.Names) == 1 && len(n.Values) == 1 {
			t.constants[t.place(n.Pos())] = site{pkg: pkg, pos: n.Pos(), value: n.Values[0]}
		}
	case *ast.Ident:
		if v, ok := pkg.TypesInfo.Uses[n].(*types.Var); ok && v.Pkg() != nil {
			if why := unbounded[v.Pkg().Path()+"."+v.Name()]; why != "" {
				t.problem(n.Pos(), v.Name()+" "+why)
			}
		}
	}
}

func (t *tree) callAt(pkg *packages.Package, call *ast.CallExpr, stack []ast.Node) {
	if fun, ok := ast.Unparen(call.Fun).(*ast.Ident); ok && pkg.TypesInfo.Uses[fun] == types.Universe.Lookup("make") {
		t.makeAt(pkg, call)
		return
	}
	callee := calleeOf(pkg, call)
	if callee == nil {
		return
	}
	if c := t.callers[callee]; c != nil {
		t.site(site{pkg: pkg, pos: call.Pos(), what: "a call of " + callee.Name(), kinds: []string{c.what}, args: call.Args})
		return
	}
	switch name := callee.FullName(); name {
	case "(*sync.WaitGroup).Go", "(*golang.org/x/sync/errgroup.Group).Go", "(*golang.org/x/sync/errgroup.Group).TryGo":
		if !waitedFor(pkg, call, stack) {
			t.site(site{pkg: pkg, pos: call.Pos(), what: "a goroutine", kinds: forGoroutines})
		}
	default:
		m, ok := calls[name]
		if !ok || name == "io.ReadAll" && limited(pkg, call.Args[0]) {
			return
		}
		s := site{pkg: pkg, pos: call.Pos(), what: m.what, kinds: m.kinds, args: call.Args}
		if m.value >= 0 && m.value < len(call.Args) {
			s.value = call.Args[m.value]
		}
		t.site(s)
	}
}

// makeAt wants a bound of a channel, but for one that only says something by being closed.
func (t *tree) makeAt(pkg *packages.Package, call *ast.CallExpr) {
	made, ok := pkg.TypesInfo.TypeOf(call).Underlying().(*types.Chan)
	if !ok {
		return
	}
	s := site{pkg: pkg, pos: call.Pos(), what: "a channel", kinds: forChannels}
	if len(call.Args) > 1 {
		s.value = call.Args[1]
	} else if element, ok := made.Elem().Underlying().(*types.Struct); ok && element.NumFields() == 0 {
		return
	}
	t.site(s)
}

// literalAt wants bounds of what bounds things in another module's struct, and that it has those needed.
func (t *tree) literalAt(pkg *packages.Package, lit *ast.CompositeLit) {
	named, ok := types.Unalias(pkg.TypesInfo.TypeOf(lit)).(*types.Named)
	if !ok || ours(named.Obj().Pkg()) {
		return
	}
	if name := fullName(named.Obj()); name == "sync.Pool" {
		t.site(site{pkg: pkg, pos: lit.Pos(), what: "a pool", kinds: forPools})
	}
	given := map[string]bool{}
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.Ident)
		if !ok {
			continue
		}
		given[key.Name] = true
		if field, ok := pkg.TypesInfo.Uses[key].(*types.Var); ok && field.IsField() && bounding(field) {
			t.site(site{pkg: pkg, pos: kv.Pos(), what: key.Name, kinds: kindsOf(field), value: kv.Value})
		}
	}
	for _, name := range needed[fullName(named.Obj())] {
		if !given[name] {
			t.site(site{pkg: pkg, pos: lit.Pos(), what: "a " + named.Obj().Name() + " that waits for ever, for it lacks " + name + ",", kinds: forTime})
		}
	}
}

// intervals are durations that say how often something is done, and bound nothing.
var intervals = map[string]bool{"KeepAlive": true, "HeartbeatInterval": true, "MinTime": true, "Time": true}

// bounding tells whether a field of another module's type bounds something.
func bounding(field *types.Var) bool {
	if isDuration(field.Type()) {
		return !intervals[field.Name()]
	}
	b, ok := field.Type().Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0 && limiting.MatchString(field.Name())
}

func kindsOf(field *types.Var) []string {
	if isDuration(field.Type()) {
		return append([]string{"cache"}, forTime...)
	}
	return []string{"queue", "cache", "limit", "pool", "retry"}
}

// foreignField is the field of another module's struct that e names, but for the pauses of a retry, whose
// bound stands where the retry is made.
func foreignField(pkg *packages.Package, e ast.Expr) *types.Var {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	field, ok := pkg.TypesInfo.Uses[sel.Sel].(*types.Var)
	if !ok || !field.IsField() || ours(field.Pkg()) || strings.HasPrefix(field.Pkg().Path(), "github.com/cenkalti/backoff") {
		return nil
	}
	return field
}

// waitedFor tells whether the call starts one of a fixed number of goroutines that the function around
// waits for: the group is a variable of that function, is waited for there, and no loop is in between.
func waitedFor(pkg *packages.Package, call *ast.CallExpr, stack []ast.Node) bool {
	group := receiver(pkg, call)
	if group == nil {
		return false
	}
	var around ast.Node
	for _, n := range stack {
		switch n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			if n.Pos() <= group.Pos() && group.Pos() < n.End() {
				around = n
			} else {
				return false // another function, which may be called any number of times
			}
		case *ast.ForStmt, *ast.RangeStmt:
			if group.Pos() < n.Pos() {
				return false
			}
		}
	}
	if around == nil {
		return false
	}
	waited := false
	ast.Inspect(around, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && receiver(pkg, c) == group && calleeOf(pkg, c).Name() == "Wait" {
			waited = true
		}
		return !waited
	})
	return waited
}

// receiver is the variable whose method is called, nil where it is none.
func receiver(pkg *packages.Package, call *ast.CallExpr) *types.Var {
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	id, ok := ast.Unparen(sel.X).(*ast.Ident)
	if !ok || calleeOf(pkg, call) == nil {
		return nil
	}
	v, _ := pkg.TypesInfo.Uses[id].(*types.Var)
	return v
}

func calleeOf(pkg *packages.Package, call *ast.CallExpr) *types.Func {
	fun := ast.Unparen(call.Fun)
	switch f := fun.(type) {
	case *ast.IndexExpr:
		fun = f.X
	case *ast.IndexListExpr:
		fun = f.X
	}
	var id *ast.Ident
	switch f := fun.(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return nil
	}
	callee, _ := pkg.TypesInfo.Uses[id].(*types.Func)
	if callee != nil {
		callee = callee.Origin()
	}
	return callee
}

// limited tells whether a reader ends by itself.
func limited(pkg *packages.Package, reader ast.Expr) bool {
	call, ok := ast.Unparen(reader).(*ast.CallExpr)
	if !ok {
		return false
	}
	callee := calleeOf(pkg, call)
	return callee != nil && (callee.FullName() == "io.LimitReader" || callee.FullName() == "net/http.MaxBytesReader")
}

func isDuration(t types.Type) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && fullName(named.Obj()) == "time.Duration"
}

func fullName(o *types.TypeName) string {
	if o.Pkg() == nil {
		return o.Name()
	}
	return o.Pkg().Path() + "." + o.Name()
}

// ours tells whether a package is the mesh's own.
func ours(pkg *types.Package) bool {
	return pkg == nil || strings.HasPrefix(pkg.Path(), "tributary.dev/")
}
