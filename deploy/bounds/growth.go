package main

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/packages"
)

// growth finds what is added to: fields, package variables, and local variables in loops without an end.
type growth struct {
	t *tree
	// made are local variables with what they were made of, nil where that is nothing yet.
	made map[*types.Var]ast.Expr
	// fills are the parameters (a receiver is -1) that a function adds to.
	fills map[*types.Func]map[int]bool
	// owners are the types that fields are declared in.
	owners map[*types.Var]field
	grown  map[*types.Var]bool
}

// field is where a variable is declared.
type field struct {
	pkg   *packages.Package
	owner *types.TypeName // nil: a variable
}

// findGrowth wants a bound at the declaration of what grows.
func (t *tree) findGrowth() {
	g := &growth{t: t, made: map[*types.Var]ast.Expr{}, fills: map[*types.Func]map[int]bool{}, owners: map[*types.Var]field{}, grown: map[*types.Var]bool{}}
	for _, pkg := range t.pkgs {
		for _, file := range pkg.Syntax {
			g.declarations(pkg, file)
		}
	}
	for g.spread() {
	}
	for _, pkg := range t.pkgs {
		for _, file := range pkg.Syntax {
			g.additions(pkg, file, func(target ast.Expr, stack []ast.Node) { g.added(pkg, target, stack) })
		}
	}
}

// declarations notes who owns which field, what locals are made of, and what grows by its type.
func (g *growth) declarations(pkg *packages.Package, file *ast.File) {
	info := pkg.TypesInfo
	variable := func(id *ast.Ident, value ast.Expr) {
		if v, ok := info.Defs[id].(*types.Var); ok {
			g.made[v] = value
			g.owners[v] = field{pkg: pkg}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			owner, _ := info.Defs[n.Name].(*types.TypeName)
			ast.Inspect(n.Type, func(n ast.Node) bool {
				if s, ok := n.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						for _, name := range f.Names {
							v := info.Defs[name].(*types.Var)
							g.owners[v] = field{pkg, owner}
							if grows[types.TypeString(v.Type(), nil)] {
								g.grow(v)
							}
						}
					}
				}
				return true
			})
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE && len(n.Lhs) == len(n.Rhs) {
				for i, left := range n.Lhs {
					if id, ok := left.(*ast.Ident); ok {
						variable(id, n.Rhs[i])
					}
				}
			}
		case *ast.ValueSpec:
			for i, id := range n.Names {
				var value ast.Expr
				if i < len(n.Values) {
					value = n.Values[i]
				}
				if len(n.Values) == 0 || len(n.Values) == len(n.Names) {
					variable(id, value)
				}
			}
		}
		return true
	})
}

// grows are the types whose values are there to be added to.
var grows = map[string]bool{
	"sync.Map": true, "container/list.List": true, "*container/list.List": true,
	"bytes.Buffer": true, "*bytes.Buffer": true, "strings.Builder": true, "*strings.Builder": true,
}

// added decides whether what is added to lives longer than what adds.
func (g *growth) added(pkg *packages.Package, target ast.Expr, stack []ast.Node) {
	v, root := g.base(pkg, target, 0)
	if v == nil {
		return
	}
	if root != nil && local(root) {
		if v == root || g.begun(pkg, root) {
			if endless(pkg, root, stack) {
				g.grow(root)
			}
			return
		}
	}
	if v.IsField() || !local(v) {
		g.grow(v)
	}
}

// base is the field or variable that an expression is part of, and the variable that this is reached from.
func (g *growth) base(pkg *packages.Package, e ast.Expr, depth int) (v, root *types.Var) {
	switch e := ast.Unparen(e).(type) {
	case *ast.IndexExpr:
		return g.base(pkg, e.X, depth)
	case *ast.StarExpr:
		return g.base(pkg, e.X, depth)
	case *ast.UnaryExpr:
		return g.base(pkg, e.X, depth)
	case *ast.SelectorExpr:
		v, ok := pkg.TypesInfo.Uses[e.Sel].(*types.Var)
		if !ok {
			return nil, nil
		}
		if v.IsField() {
			_, root = g.base(pkg, e.X, depth)
		}
		return v.Origin(), root
	case *ast.Ident:
		v, ok := pkg.TypesInfo.ObjectOf(e).(*types.Var)
		if !ok {
			return nil, nil
		}
		// Another name for a field's map is that map.
		if value := g.made[v]; value != nil && depth < 4 {
			if _, isMap := core(v.Type()).(*types.Map); isMap {
				if sel, ok := ast.Unparen(value).(*ast.SelectorExpr); ok {
					if field, from := g.base(pkg, sel, depth+1); field != nil {
						return field, from
					}
				}
			}
		}
		return v, v
	}
	return nil, nil
}

// begun tells whether a local variable's value was made in its function, so that it is no one else's yet.
func (g *growth) begun(pkg *packages.Package, v *types.Var) bool {
	value, known := g.made[v]
	if !known {
		return false
	}
	if value == nil {
		_, pointer := v.Type().Underlying().(*types.Pointer)
		return !pointer
	}
	value = ast.Unparen(value)
	if address, ok := value.(*ast.UnaryExpr); ok && address.Op == token.AND {
		value = ast.Unparen(address.X)
	}
	if call, ok := value.(*ast.CallExpr); ok {
		id, isIdent := ast.Unparen(call.Fun).(*ast.Ident)
		return isIdent && pkg.TypesInfo.Uses[id] == types.Universe.Lookup("new")
	}
	_, literal := value.(*ast.CompositeLit)
	return literal
}

// endless tells whether a loop without an end of its own, begun after v was declared, adds to v and never
// begins v anew.
func endless(pkg *packages.Package, v *types.Var, stack []ast.Node) bool {
	for i, n := range stack {
		if n.Pos() <= v.Pos() && v.Pos() < n.End() {
			continue
		}
		var body *ast.BlockStmt
		switch n := n.(type) {
		case *ast.ForStmt:
			if n.Init == nil && n.Post == nil {
				body = n.Body
			}
		case *ast.FuncLit:
			if kept(pkg, stack[:i]) {
				body = n.Body
			}
		case *ast.RangeStmt:
			if _, ok := core(pkg.TypesInfo.TypeOf(n.X)).(*types.Chan); ok {
				body = n.Body
			}
		}
		if body != nil && !begunAnew(pkg, v, body) {
			return true
		}
	}
	return false
}

// kept tells whether a function that stands at the end of a stack may be called long after, any number of
// times: it is returned, or put into a field.
func kept(pkg *packages.Package, stack []ast.Node) bool {
	for i := len(stack) - 1; i >= 0; i-- {
		switch n := stack[i].(type) {
		case *ast.ParenExpr:
		case *ast.CallExpr: // a conversion: http.HandlerFunc(…)
			if !pkg.TypesInfo.Types[n.Fun].IsType() {
				return false
			}
		case *ast.ReturnStmt:
			return true
		case *ast.KeyValueExpr:
			return true
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if _, ok := ast.Unparen(left).(*ast.SelectorExpr); ok {
					return true
				}
			}
			return false
		default:
			return false
		}
	}
	return false
}

func begunAnew(pkg *packages.Package, v *types.Var, body *ast.BlockStmt) (anew bool) {
	is := func(e ast.Expr) bool {
		id, ok := ast.Unparen(e).(*ast.Ident)
		return ok && pkg.TypesInfo.ObjectOf(id) == v
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if is(left) && (len(n.Lhs) != len(n.Rhs) || !appended(pkg, left, n.Rhs[i])) {
					anew = true
				}
			}
		case *ast.CallExpr:
			if id, ok := ast.Unparen(n.Fun).(*ast.Ident); ok && pkg.TypesInfo.Uses[id] == types.Universe.Lookup("clear") && is(n.Args[0]) {
				anew = true
			}
		}
		return !anew
	})
	return anew
}

// grow wants a bound where v is declared.
func (g *growth) grow(v *types.Var) {
	at, ours := g.owners[v]
	if !ours || g.grown[v] {
		return
	}
	g.grown[v] = true
	what := v.Name() + ", which is added to,"
	g.t.site(site{pkg: at.pkg, pos: v.Pos(), what: what, kinds: forGrowth, owner: at.owner})
}

// local tells whether a variable is a function's.
func local(v *types.Var) bool {
	return !v.IsField() && v.Pkg() != nil && v.Parent() != v.Pkg().Scope()
}
