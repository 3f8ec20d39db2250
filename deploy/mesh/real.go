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
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // makes the databases

	"tributary.dev/libs/bus/bustest"
)

// realParts are what a mesh of one process a service stands on: Kafka and PostgreSQL as `make services`
// runs them, with topics and databases of its own, and a front that routes by path.
type realParts struct {
	kafka, server string
	name          string   // begins its databases' names, and its topics'
	written       []string // folders of Kafka and PostgreSQL
	front         *http.Server
}

// databases of the services.
var databases = []string{"conversation", "connect", "registry", "privacy"}

// services and the paths that the front sends to each; the first also gets the rest.
var services = []struct {
	name  string
	paths []string
}{
	{"conversation", nil},
	{"privacy", []string{"/v1/privacy/"}},
	{"connect", []string{"/v1/apps", "/v1/connections", "/v1/keys", "/v1/workspaces", "/v1/members"}},
	{"slack", []string{"/webhooks/slack/", "/media/slack/"}},
	{"sms", []string{"/webhooks/sms/", "/media/sms/"}},
}

// planReal makes databases, the front and the settings of one process a service.
func (m *Mesh) planReal(env map[string]string) error {
	r := &realParts{
		kafka: os.Getenv("TRIBUTARY_TEST_KAFKA"), server: os.Getenv("TRIBUTARY_TEST_POSTGRES"),
		name: "mesh_" + strconv.FormatInt(time.Now().UnixNano(), 36),
	}
	if r.kafka == "" || r.server == "" {
		return errors.New("real parts need Kafka and PostgreSQL: make services, and source .services/env")
	}
	m.real = r
	if err := r.find(); err != nil {
		return err
	}
	for _, name := range databases {
		if err := r.admin("CREATE DATABASE " + r.database(name)); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.URL = "http://" + l.Addr().String()
	_, registry := FreeAddress()
	if env["TRIBUTARY_KAFKA_PARTITIONS"] == "" {
		env["TRIBUTARY_KAFKA_PARTITIONS"] = "4"
	}
	maps.Copy(env, map[string]string{
		"TRIBUTARY_PUBLIC_URL": m.URL, "TRIBUTARY_SECRET": random(), "TRIBUTARY_KEEPER_URL": "base64key://" + random(),
		"TRIBUTARY_KAFKA_BROKERS": r.kafka, "TRIBUTARY_KAFKA_PREFIX": r.name + ".",
		"TRIBUTARY_DATABASE_URL":     r.url("{name}"),
		"TRIBUTARY_BUCKET_URL":       "file://" + filepath.Join(m.cfg.Data, "bucket"),
		"TRIBUTARY_REGISTRY_ADDRESS": registry,
	})
	tokens := make([]string, len(services))
	front := http.NewServeMux()
	for i, s := range services {
		own := maps.Clone(env)
		service, listen := FreeAddress()
		token := random()
		tokens[i] = s.name + ":" + token
		maps.Copy(own, map[string]string{
			"TRIBUTARY_DATA": filepath.Join(m.cfg.Data, s.name), "TRIBUTARY_LISTEN": listen, "TRIBUTARY_REGISTRY_TOKEN": token,
		})
		if !m.cfg.Untraced {
			own["TRIBUTARY_TRACE_FILE"] = filepath.Join(m.cfg.Data, s.name+"-traces.jsonl")
		}
		if len(m.cfg.Only) == 0 || slices.Contains(m.cfg.Only, s.name) {
			m.processes = append(m.processes, &Process{Name: s.name, URL: service, env: own})
		}
		target, err := url.Parse(service)
		if err != nil {
			return err
		}
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
		for _, path := range s.paths {
			front.Handle(path, proxy)
			if !strings.HasSuffix(path, "/") {
				front.Handle(path+"/", proxy)
			}
		}
		if i == 0 {
			front.Handle("/", proxy)
		}
	}
	m.keyDir = filepath.Join(m.cfg.Data, "connect")
	for _, p := range m.processes {
		if p.Name == "privacy" {
			maps.Copy(p.env, map[string]string{
				"TRIBUTARY_REGISTRY_LISTEN": registry, "TRIBUTARY_REGISTRY_TOKENS": strings.Join(tokens, ","),
				"TRIBUTARY_REGISTRY_KEEPER_URL": "base64key://" + random(),
			})
		}
	}
	r.front = &http.Server{Handler: front, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.front.Serve(l) }() // ends with remove
	return nil
}

// remove drops the databases, deletes the topics and closes the front.
func (r *realParts) remove(ctx context.Context) error {
	var errs []error
	if r.front != nil {
		errs = append(errs, r.front.Close())
	}
	for _, name := range append(databases, backedUp+"_backup") {
		errs = append(errs, r.admin("DROP DATABASE IF EXISTS "+r.database(name)+" WITH (FORCE)"))
	}
	return errors.Join(append(errs, bustest.DeleteTopics(ctx, strings.Split(r.kafka, ","), r.name+"."))...)
}

// find where Kafka and PostgreSQL write.
func (r *realParts) find() error {
	folder := os.Getenv("TRIBUTARY_SERVICES")
	if folder == "" {
		folder = ".services"
	}
	return withDatabase(r.server, func(db *sql.DB) error {
		data, err := texts(context.Background(), db, "SHOW data_directory")
		if err == nil {
			r.written = []string{filepath.Join(folder, "kafka"), filepath.Dir(data[0])} // the log lies beside the data
		}
		return err
	})
}

func (r *realParts) database(name string) string { return r.name + "_" + name }

// url of a database; {name} stays as it is.
func (r *realParts) url(name string) string {
	u, err := url.Parse(r.server)
	if err != nil {
		return r.server // opening it says why
	}
	u.Path = "/" + r.database("NAME")
	return strings.Replace(u.String(), "NAME", name, 1)
}

// admin runs statements outside the mesh's databases.
func (r *realParts) admin(statements ...string) error {
	return withDatabase(r.server, func(db *sql.DB) error {
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
