package accounts

import (
	"sync"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// index finds a table's keys by what webhooks name.
//
//bound:cache a channel's apps and connections, by what webhooks name | what the topics hold | grows with the accounts that are connected
type index struct {
	mu        sync.RWMutex
	apps      map[string]appNames // by key
	byName    map[string]string
	byAppID   map[string]string
	accounts  map[string]account // by connection id
	byAccount map[string]string  // to connection id
}

type appNames struct{ name, id string }

type account struct {
	externalID string
	status     pb.ConnectionStatus
}

func newIndex() *index {
	return &index{
		apps: map[string]appNames{}, byName: map[string]string{}, byAppID: map[string]string{},
		accounts: map[string]account{}, byAccount: map[string]string{},
	}
}

func (x *index) appNamed(name string) (key string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	key, ok = x.byName[name]
	return key, ok
}

func (x *index) app(id string) (key string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	key, ok = x.byAppID[id]
	return key, ok
}

func (x *index) account(externalID string) (connectionID string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	connectionID, ok = x.byAccount[externalID]
	return connectionID, ok
}

func (x *index) setApp(key string, app *pb.App) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if was, ok := x.apps[key]; ok {
		forget(x.byName, was.name, key)
		forget(x.byAppID, was.id, key)
		delete(x.apps, key)
	}
	if app == nil {
		return
	}
	x.apps[key] = appNames{app.GetName(), app.GetId()}
	x.byName[app.GetName()] = key
	x.byAppID[app.GetId()] = key
}

func (x *index) setConnection(id string, c *pb.Connection) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if was, known := x.accounts[id]; known {
		forget(x.byAccount, was.externalID, id)
		delete(x.accounts, id)
	}
	if c == nil {
		return
	}
	is := account{c.GetExternalId(), c.GetStatus()}
	x.accounts[id] = is
	// Of two connections of one account the one that is not disabled counts.
	if other, taken := x.byAccount[is.externalID]; !taken || is.status != disabled || x.accounts[other].status == disabled {
		x.byAccount[is.externalID] = id
	}
}

const disabled = pb.ConnectionStatus_CONNECTION_STATUS_DISABLED

func forget(m map[string]string, name, key string) {
	if m[name] == key {
		delete(m, name)
	}
}
