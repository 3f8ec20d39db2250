// Package access says who may call: API keys ("trb_<id>_<secret>"), their workspace, role and scopes, from
// a Table of the access topic. Services authenticate by themselves and ask nobody.
package access

import (
	"context"
	"net/http"
	"time"

	"tributary.dev/libs/bus"
)

// SCAFFOLD

// Caller is who calls.
type Caller struct {
	KeyID, WorkspaceID, Role, MemberID string
	Scopes                             []string
}

// Scopes, "<resource>:<read|write>"; a role implies a set of them (owner: all).
const (
	ConversationsRead  = "conversations:read"
	ConversationsWrite = "conversations:write"
	ContactsRead       = "contacts:read"
	ConnectionsRead    = "connections:read"
	ConnectionsWrite   = "connections:write"
	AppsWrite          = "apps:write"
	KeysWrite          = "keys:write"
	PrivacyWrite       = "privacy:write"
	PrivacyRead        = "privacy:read"
	WorkspacesWrite    = "workspaces:write"
)

// Directory checks keys against the access Table.
type Directory struct{}

// NewDirectory makes one; Run keeps it.
func NewDirectory(b *bus.Bus, now func() time.Time) *Directory { panic("scaffold") }

// Run keeps the table until ctx ends.
func (d *Directory) Run(ctx context.Context) error { panic("scaffold") }

// Ready as bus.Table's.
func (d *Directory) Ready() bool { panic("scaffold") }

// Middleware authenticates (401 problem+json) and puts the Caller into the context.
func (d *Directory) Middleware(next http.Handler) http.Handler { panic("scaffold") }

// From gives the Caller of a request's context.
func From(ctx context.Context) (Caller, bool) { panic("scaffold") }

// Require is an error (403 by endpointx) when the context's caller lacks scope.
func Require(ctx context.Context, scope string) error { panic("scaffold") }

// NewKey makes a key: its id, the full text to hand out once, and the hash to keep.
func NewKey() (id, text string, hash []byte) { panic("scaffold") }
