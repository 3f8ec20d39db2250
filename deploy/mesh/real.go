package mesh

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // makes the databases

	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/wire"
)

// realParts are what a mesh of one process a service has of Kafka and PostgreSQL for its own: topics and
// databases; and a front that routes by path.
type realParts struct {
	parts *Parts
	name  string // begins its databases' names, and its topics'
	front *front
	wires []*wire.Wire
}

// databases of the services.
var databases = []string{"conversation", "connect", "registry", "privacy"}

// service is a process of its own, and the paths that the front sends to it.
type service struct {
	name  string
	paths []string
}

// services of a mesh; the first also gets the rest of the paths.
func services() []service {
	all := []service{
		{"conversation", nil},
		{"privacy", []string{"/v1/privacy/"}},
		{"connect", []string{"/v1/apps", "/v1/connections", "/v1/keys", "/v1/workspaces", "/v1/members", "/connect/"}},
	}
	for _, name := range channel.Names() {
		all = append(all, service{name, []string{"/webhooks/" + name + "/", "/media/" + name + "/"}})
	}
	return all
}

// registryService is the one that has the key registry.
const registryService = "privacy"

// planReal makes databases, the front and the settings of one process a service and replica.
func (m *Mesh) planReal(env map[string]string) (err error) {
	r := &realParts{parts: m.cfg.Parts, name: "mesh_" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	if r.parts == nil {
		if r.parts, err = SharedParts(); err != nil {
			return err
		}
	}
	m.real = r
	for _, name := range databases {
		// As docs/operations.md asks for them.
		if err := r.admin("CREATE DATABASE " + r.database(name) + " TEMPLATE template0 LOCALE 'C'"); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.URL = "http://" + l.Addr().String()
	maps.Copy(env, map[string]string{
		"TRIBUTARY_PUBLIC_URL": m.URL, "TRIBUTARY_SECRET": random(), "TRIBUTARY_KEEPER_URL": "base64key://" + random(),
		"TRIBUTARY_KAFKA_BROKERS": r.parts.kafka, "TRIBUTARY_KAFKA_PREFIX": r.name + ".",
		"TRIBUTARY_DATABASE_URL": r.url("{name}"),
		"TRIBUTARY_BUCKET_URL":   "file://" + filepath.Join(m.cfg.Data, "bucket"),
	})
	delay := "0s" // nothing else would be asked meanwhile
	if m.cfg.Replicas > 1 {
		delay = (lookEvery + lookFor).String()
	}
	for name, value := range map[string]string{"TRIBUTARY_KAFKA_PARTITIONS": "4", "TRIBUTARY_STOP_DELAY": delay} {
		if env[name] == "" {
			env[name] = value
		}
	}
	m.plan(env)
	if r.front, err = newFront(l, m.processes); err != nil {
		return errors.Join(err, l.Close())
	}
	if m.cfg.Wires {
		return m.wireAll()
	}
	return m.reachRegistry()
}

// plan makes a process for each service and replica, with settings of its own.
func (m *Mesh) plan(env map[string]string) {
	all := services()
	tokens := make([]string, len(all))
	keeper := random()
	for i, s := range all {
		token := random()
		tokens[i] = s.name + ":" + token
		if len(m.cfg.Only) > 0 && !slices.Contains(m.cfg.Only, s.name) {
			continue
		}
		for n := range max(1, m.cfg.Replicas) {
			name := s.name
			if n > 0 {
				name += "-" + strconv.Itoa(n+1)
			}
			url, listen := freeAddress()
			own := maps.Clone(env)
			maps.Copy(own, map[string]string{
				"TRIBUTARY_DATA": filepath.Join(m.cfg.Data, name), "TRIBUTARY_LISTEN": listen, "TRIBUTARY_REGISTRY_TOKEN": token,
			})
			if !m.cfg.Untraced {
				own["TRIBUTARY_TRACE_FILE"] = filepath.Join(m.cfg.Data, name+"-traces.jsonl")
			}
			m.processes = append(m.processes, &Process{
				Name: name, Service: s.name, URL: url, env: own,
				command: []string{filepath.Join(m.cfg.Bin, s.name)}, log: filepath.Join(m.cfg.Data, name+".log"),
			})
		}
	}
	for _, p := range m.Of(registryService) {
		_, registry := freeAddress()
		maps.Copy(p.env, map[string]string{
			"TRIBUTARY_REGISTRY_LISTEN": registry, "TRIBUTARY_REGISTRY_TOKENS": strings.Join(tokens, ","),
			"TRIBUTARY_REGISTRY_KEEPER_URL": "base64key://" + keeper,
			"TRIBUTARY_REGISTRY_KEYSTORE":   filepath.Join(m.cfg.Data, "keystore"), // which the replicas share
		})
	}
}

// reachRegistry tells every process the one registry, or what balances several.
func (m *Mesh) reachRegistry() error {
	replicas := m.Of(registryService)
	_, address := freeAddress() // where none is, nobody answers
	if len(replicas) == 1 {
		address = replicas[0].env["TRIBUTARY_REGISTRY_LISTEN"]
	}
	if len(replicas) > 1 {
		w, err := m.real.wire(m.real.front.dialRegistry)
		if err != nil {
			return err
		}
		address = w.Addr()
	}
	m.Set("TRIBUTARY_REGISTRY_ADDRESS", address)
	return nil
}

// wireAll puts wires between every process and what it stands on.
func (m *Mesh) wireAll() error {
	r := m.real
	if len(r.parts.doors) < len(m.processes) {
		return fmt.Errorf("%d processes need as many doors to Kafka, not %d", len(m.processes), len(r.parts.doors))
	}
	database, err := r.parts.databaseAddr()
	if err != nil {
		return err
	}
	for i, p := range m.processes {
		p.Broker = r.parts.doors[i].Wire
		p.Broker.Mend() // another mesh may have had it
		if p.Registry, err = r.wire(r.front.dialRegistry); err != nil {
			return err
		}
		p.Database, err = r.wire(func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", database)
		})
		if err != nil {
			return err
		}
		p.Set("TRIBUTARY_KAFKA_BROKERS", p.Broker.Addr())
		p.Set("TRIBUTARY_REGISTRY_ADDRESS", p.Registry.Addr())
		p.Set("TRIBUTARY_DATABASE_URL", strings.Replace(p.env["TRIBUTARY_DATABASE_URL"], "@"+database+"/", "@"+p.Database.Addr()+"/", 1))
	}
	return nil
}

// wire makes one that ends with the mesh.
func (r *realParts) wire(connect func(ctx context.Context) (net.Conn, error)) (*wire.Wire, error) {
	w := &wire.Wire{}
	if err := w.Listen("127.0.0.1:0", connect); err != nil {
		return nil, err
	}
	r.wires = append(r.wires, w)
	return w, nil
}

// remove drops the databases, deletes the topics and closes the front.
func (r *realParts) remove(ctx context.Context) error {
	var errs []error
	if r.front != nil {
		errs = append(errs, r.front.close())
	}
	for _, w := range r.wires {
		w.Close()
	}
	for _, name := range append(databases, backedUp+"_backup") {
		errs = append(errs, r.admin("DROP DATABASE IF EXISTS "+r.database(name)+" WITH (FORCE)"))
	}
	return errors.Join(append(errs, bustest.DeleteTopics(ctx, strings.Split(r.parts.kafka, ","), r.name+"."))...)
}

// Prefix stands before the names of its topics; "" where it is one process.
func (m *Mesh) Prefix() string {
	if m.real == nil {
		return ""
	}
	return m.real.name + "."
}

func (r *realParts) database(name string) string { return r.name + "_" + name }

// url of a database; {name} stays as it is.
func (r *realParts) url(name string) string {
	u, err := url.Parse(r.parts.server)
	if err != nil {
		return r.parts.server // opening it says why
	}
	u.Path = "/" + r.database("NAME")
	return strings.Replace(u.String(), "NAME", name, 1)
}

// admin runs statements outside the mesh's databases.
func (r *realParts) admin(statements ...string) error {
	return withDatabase(r.parts.server, func(db *sql.DB) error {
		for _, s := range statements {
			if _, err := db.ExecContext(context.Background(), s); err != nil {
				return err
			}
		}
		return nil
	})
}

// dump writes every row of every table, as text, to a file a database, after PostgreSQL has written its own.
func (r *realParts) dump(ctx context.Context, folder string) error {
	if err := errors.Join(r.admin("CHECKPOINT"), os.MkdirAll(folder, 0o700)); err != nil {
		return err
	}
	for _, name := range databases {
		file, err := os.Create(filepath.Join(folder, name+".txt"))
		if err != nil {
			return err
		}
		err = withDatabase(r.url(name), func(db *sql.DB) error {
			tables, err := texts(ctx, db, `SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
				WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')`)
			if err != nil {
				return err
			}
			for _, table := range tables {
				rows, err := texts(ctx, db, "SELECT t::text FROM "+table+" t")
				if err != nil {
					return err
				}
				fmt.Fprintf(file, "%s\n%s\n", table, strings.Join(rows, "\n"))
			}
			return nil
		})
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func withDatabase(url string, do func(db *sql.DB) error) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// texts of the one column that a query gives.
func texts(ctx context.Context, db *sql.DB, query string) (all []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.URLEncoding.EncodeToString(b)
}
