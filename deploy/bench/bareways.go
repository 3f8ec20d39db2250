package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the database that bare ways end in
	"github.com/segmentio/kafka-go"
)

// partitions is what the mesh makes of a topic by itself.
const partitions = 32

// recordBytes is about what the mesh writes for a short message.
const recordBytes = 700

// bareHop gives, in milliseconds, how long records take from kafka-go's Writer to its Readers at the pace.
func (e *env) bareHop(ctx context.Context) (took []float64, err error) {
	b := e.brokers()
	defer b.close()
	topic := "bench_hop_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := b.create(ctx, topic); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.remove(topic)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for p := range partitions {
		r := kafka.NewReader(kafka.ReaderConfig{
			Brokers: b.addresses, Topic: topic, Partition: p,
			MinBytes: 1, MaxBytes: 4 << 20, MaxWait: 2 * time.Second, QueueCapacity: 100, ReadLagInterval: -1,
		})
		reading.Go(func() {
			defer r.Close()
			for {
				m, err := r.ReadMessage(ctx)
				if err != nil {
					return // ctx has ended
				}
				at := time.Unix(0, int64(binary.BigEndian.Uint64(m.Value)))
				mu.Lock()
				took = append(took, time.Since(at).Seconds()*1e3)
				mu.Unlock()
			}
		})
	}
	w := b.writer()
	send := func(ctx context.Context, _, n int) error {
		value := make([]byte, recordBytes)
		binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
		return w.WriteMessages(ctx, kafka.Message{Topic: topic, Key: []byte(strconv.Itoa(n % warmPeople)), Value: value})
	}
	if err := paced(ctx, e.pace(), paceWorkers, e.window/4, send); err != nil { // every reader has its connection then
		return nil, err
	}
	mu.Lock()
	took = nil
	mu.Unlock()
	if err := errors.Join(paced(ctx, e.pace(), paceWorkers, e.window, send), w.Close()); err != nil {
		return nil, err
	}
	for range 100 { // what is still on its way
		mu.Lock()
		n := len(took)
		mu.Unlock()
		if n >= int(e.window.Seconds()*float64(e.pace())) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	return append([]float64(nil), took...), nil
}

// create a topic as the mesh does, and wait until it can be written to.
func (b *brokers) create(ctx context.Context, topic string) error {
	if _, err := b.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}}); err != nil {
		return err
	}
	var err error
	for range 100 {
		var ends map[int]int64
		if ends, err = b.ends(ctx, topic); err == nil && len(ends) == partitions {
			return nil
		}
		b.transport.CloseIdleConnections() // its metadata is asked for anew
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s does not come up: %w", topic, err)
}

func (b *brokers) remove(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := b.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = res.Errors[topic]
	}
	return err
}

// bareCommit gives, in milliseconds, how long commits take, of transactions with as much in them as the
// mesh's have for a message, at the pace.
func (e *env) bareCommit(ctx context.Context) (took []float64, err error) {
	db, remove, err := e.newDatabase(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	db.SetMaxOpenConns(paceWorkers) // whoever waited for a connection while the disk stalls would not be measured
	for _, table := range []string{"seen", "messages", "outbox"} {
		if _, err := db.ExecContext(ctx, "CREATE TABLE "+table+" (id TEXT PRIMARY KEY, body BYTEA NOT NULL)"); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	do := func(ctx context.Context, _, _ int) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		body := make([]byte, recordBytes/2)
		_, _ = rand.Read(body) // never fails
		id := rand.Text()
		for _, table := range []string{"seen", "messages", "outbox"} {
			if _, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (id, body) VALUES ($1, $2)", id, body); err != nil {
				return err
			}
		}
		began := time.Now()
		err = tx.Commit()
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began).Seconds()*1e3)
		return err
	}
	if err := paced(ctx, e.pace(), paceWorkers, e.window/4, do); err != nil {
		return nil, err
	}
	took = nil
	err = paced(ctx, e.pace(), paceWorkers, e.window, do)
	return took, err
}

// newDatabase makes one of the bench's own; remove drops it.
func (e *env) newDatabase(ctx context.Context) (db *sql.DB, remove func() error, err error) {
	server, err := sql.Open("pgx", e.postgres)
	if err != nil {
		return nil, nil, err
	}
	name := "bench_" + strings.ToLower(rand.Text())
	if _, err := server.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	u, err := url.Parse(e.postgres)
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	u.Path = "/" + name
	if db, err = sql.Open("pgx", u.String()); err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return db, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		errs := []error{db.Close()}
		_, err := server.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		return errors.Join(append(errs, err, server.Close())...)
	}, nil
}
