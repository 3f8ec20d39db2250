package mesh

import (
	"database/sql"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // opens the databases of one process
)

// OneProcess tells whether one process does it all, on an embedded broker and SQLite.
func (m *Mesh) OneProcess() bool { return m.real == nil }

// Database opens one of the mesh's databases past the mesh: conversation, connect, registry or privacy.
func (m *Mesh) Database(name string) (*sql.DB, error) {
	if m.real != nil {
		return sql.Open("pgx", m.real.url(name))
	}
	found, err := filepath.Glob(filepath.Join(m.cfg.Data, "*", name+".db"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%d databases are called %s: %w", len(found), name, err)
	}
	return sql.Open("sqlite", found[0]+"?_pragma=busy_timeout(10000)&_txlock=immediate")
}

// KeyStore is the folder of the registry's key store, and the URL of the keeper that opens what is in it.
func (m *Mesh) KeyStore() (folder, keeperURL string, err error) {
	if m.real != nil {
		for _, p := range m.processes {
			if p.Name == "privacy" {
				return p.env["TRIBUTARY_REGISTRY_KEYSTORE"], p.env["TRIBUTARY_REGISTRY_KEEPER_URL"], nil
			}
		}
	}
	key, err := os.ReadFile(filepath.Join(m.cfg.Data, "keeper-key"))
	return filepath.Join(m.cfg.Data, "privacy", "keystore"), "base64key://" + base64.URLEncoding.EncodeToString(key), err
}
