package main

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/packages"
)

// additions calls added with each expression that something is added to.
func (g *growth) additions(pkg *packages.Package, root ast.Node, added func(target ast.Expr, stack []ast.Node)) {
	isMap := func(e ast.Expr) bool {
		t := pkg.TypesInfo.TypeOf(e)
		if t == nil {
			return false
		}
		_, ok := core(t).(*types.Map)
		return ok
	}
	into := func(left ast.Expr, stack []ast.Node) {
		if index, ok := ast.Unparen(left).(*ast.IndexExpr); ok && isMap(index.X) {
			added(index.X, stack)
		}
	}
	ast.PreorderStack(root, nil, func(n ast.Node, stack []ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				into(left, stack)
				if len(n.Lhs) == len(n.Rhs) && appended(pkg, left, n.Rhs[i]) {
					added(left, stack)
				}
			}
		case *ast.IncDecStmt:
			into(n.X, stack)
		case *ast.CallExpr:
			callee := calleeOf(pkg, n)
			if callee == nil {
				return true
			}
			fills := g.fills[callee]
			if name := callee.FullName(); name == "maps.Copy" || name == "maps.Insert" {
				fills = map[int]bool{0: true}
			}
			for i := range fills {
				if sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr); i < 0 && ok {
					added(sel.X, stack)
				} else if i >= 0 && i < len(n.Args) {
					added(n.Args[i], stack)
				}
			}
		}
		return true
	})
}

// appended tells whether right is what was there with something added; what begins anew does not grow.
func appended(pkg *packages.Package, left, right ast.Expr) bool {
	call, ok := ast.Unparen(right).(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	name := ""
	if id, ok := ast.Unparen(call.Fun).(*ast.Ident); ok && pkg.TypesInfo.Uses[id] == types.Universe.Lookup("append") {
		name = "append"
	} else if callee := calleeOf(pkg, call); callee != nil {
		name = callee.FullName()
	}
	switch name {
	case "append", "slices.Insert", "slices.Concat":
		return types.ExprString(ast.Unparen(call.Args[0])) == types.ExprString(left)
	}
	return false
}

// spread finds one more parameter that a function adds to, or tells that there is none.
func (g *growth) spread() (more bool) {
	for _, pkg := range g.t.pkgs {
		for _, file := range pkg.Syntax {
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				of := pkg.TypesInfo.Defs[f.Name].(*types.Func)
				params := parameters(pkg, f)
				g.additions(pkg, f, func(target ast.Expr, _ []ast.Node) {
					id, ok := ast.Unparen(target).(*ast.Ident)
					if !ok {
						return
					}
					v, _ := pkg.TypesInfo.Uses[id].(*types.Var)
					i, isParam := params[v]
					if !isParam || g.fills[of][i] {
						return
					}
					if _, isMap := core(v.Type()).(*types.Map); !isMap {
						return // a slice that grows is the function's own
					}
					if g.fills[of] == nil {
						g.fills[of] = map[int]bool{}
					}
					g.fills[of][i], more = true, true
				})
			}
		}
	}
	return more
}

func parameters(pkg *packages.Package, f *ast.FuncDecl) map[*types.Var]int {
	params := map[*types.Var]int{}
	note := func(list *ast.FieldList, i int) {
		if list == nil {
			return
		}
		for _, p := range list.List {
			for _, name := range p.Names {
				if v, ok := pkg.TypesInfo.Defs[name].(*types.Var); ok {
					params[v] = i
				}
				i++
			}
			if len(p.Names) == 0 {
				i++
			}
		}
	}
	note(f.Recv, -1)
	note(f.Type.Params, 0)
	return params
}

// core is the type below names and type parameters.
func core(t types.Type) types.Type {
	if p, ok := types.Unalias(t).(*types.TypeParam); ok {
		if u, ok := p.Constraint().Underlying().(*types.Interface); ok && u.NumEmbeddeds() == 1 {
			if union, ok := u.EmbeddedType(0).(*types.Union); ok && union.Len() == 1 {
				return union.Term(0).Type().Underlying()
			}
		}
	}
	return t.Underlying()
}
