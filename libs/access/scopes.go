package access

import (
	"context"
	"slices"

	"tributary.dev/libs/endpointx/problem"
)

// Scopes, "<resource>:<read|write>"; a role implies a set of them.
const (
	ConversationsRead  = "conversations:read"
	ConversationsWrite = "conversations:write"
	ContactsRead       = "contacts:read"
	ConnectionsRead    = "connections:read"
	ConnectionsWrite   = "connections:write"
	AppsRead           = "apps:read"
	AppsWrite          = "apps:write"
	KeysRead           = "keys:read"
	KeysWrite          = "keys:write"
	MembersRead        = "members:read"
	MembersWrite       = "members:write"
	PrivacyRead        = "privacy:read"
	PrivacyWrite       = "privacy:write"
	// CommerceWrite sets what a shop keeps of an order or a customer.
	CommerceWrite = "commerce:write"
	// LettersOpen opens records that could not be handled.
	LettersOpen = "letters:open"
	// WorkspacesWrite makes workspaces, and is the operator's alone.
	WorkspacesWrite = "workspaces:write"
)

// Roles of a member, and of a key.
const (
	Owner = "owner"
	Admin = "admin"
	Agent = "agent"
)

// RoleScopes are the scopes that a role implies: an agent talks to people and keeps notes on their
// orders, an admin also runs accounts and apps, an owner also decides who may call and what becomes of people's data. Nil for an unknown role.
func RoleScopes(role string) []string {
	agent := []string{ConversationsRead, ConversationsWrite, ContactsRead, CommerceWrite, ConnectionsRead, MembersRead}
	admin := append(slices.Clone(agent), ConnectionsWrite, AppsRead, AppsWrite, KeysRead, PrivacyRead)
	switch role {
	case Agent:
		return agent
	case Admin:
		return admin
	case Owner:
		return append(admin, KeysWrite, MembersWrite, PrivacyWrite, LettersOpen)
	}
	return nil
}

// EffectiveScopes are a key's: its role's, narrowed to the explicit ones where it has any; an operator's
// owner key may also make workspaces.
func EffectiveScopes(role string, explicit []string, operator bool) []string {
	scopes := RoleScopes(role)
	if operator && role == Owner {
		scopes = append(scopes, WorkspacesWrite)
	}
	if len(explicit) == 0 {
		return scopes
	}
	return slices.DeleteFunc(scopes, func(s string) bool { return !slices.Contains(explicit, s) })
}

// Caller is who calls.
type Caller struct {
	KeyID, WorkspaceID, Role, MemberID string
	// Operator: the key is of the operator's own workspace.
	Operator bool
	// Scopes are the effective ones.
	Scopes []string
}

type callerKey struct{}

// With puts a caller into a context; Middleware does.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From gives the Caller of a request's context.
func From(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Require is a Problem when the context has no caller (401), or one who lacks scope (403).
func Require(ctx context.Context, scope string) error {
	c, ok := From(ctx)
	if !ok {
		return problem.Unauthorised("send an API key: Authorization: Bearer trb_…")
	}
	if !slices.Contains(c.Scopes, scope) {
		return problem.Forbidden(scope)
	}
	return nil
}
