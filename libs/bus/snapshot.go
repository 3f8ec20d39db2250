package bus

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// keeper writes a table's snapshot: soon after a change, not for each, and at the end.
type keeper[T any] struct {
	t     *Table[T]
	dirty chan struct{}
	idle  chan struct{} // receives when run has returned
}

func (t *Table[T]) newKeeper() *keeper[T] {
	//bound:queue wake-ups of who writes a Table's snapshot | {} | the next is dropped: one is enough
	return &keeper[T]{t: t, dirty: make(chan struct{}, 1), idle: make(chan struct{})}
}

func (k *keeper[T]) on() bool { return k.t.cfg.Snapshot != "" && k.t.cfg.Encode != nil }

// load shows the last state kept and tells whether there was one.
func (k *keeper[T]) load() bool {
	if !k.on() {
		return false
	}
	entries, err := k.read()
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		k.t.b.log.Error("bus: table snapshot cannot be read", "topic", k.t.cfg.Topic, "error", err)
		return false
	}
	k.t.mu.Lock()
	k.t.entries = entries
	k.t.mu.Unlock()
	if k.t.cfg.OnChange != nil {
		for key, value := range entries {
			k.t.cfg.OnChange(key, value, true)
		}
	}
	return true
}

func (k *keeper[T]) read() (map[string]T, error) {
	f, err := os.Open(k.t.cfg.Snapshot)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var raw map[string][]byte
	if err := gob.NewDecoder(f).Decode(&raw); err != nil {
		return nil, err
	}
	entries := make(map[string]T, len(raw))
	for key, value := range raw {
		if entries[key], err = k.t.cfg.Decode(value); err != nil {
			return nil, errors.New("a value cannot be decoded")
		}
	}
	return entries, nil
}

// changed makes run write before long.
func (k *keeper[T]) changed() {
	select {
	case k.dirty <- struct{}{}:
	default:
	}
}

func (k *keeper[T]) run(ctx context.Context) {
	defer func() { k.idle <- struct{}{} }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.dirty:
			k.write()
		}
		if sleep(ctx, snapshotEvery) != nil {
			return
		}
	}
}

// keep writes what run has not.
func (k *keeper[T]) keep() {
	select {
	case <-k.dirty:
		k.write()
	default:
	}
}

func (k *keeper[T]) write() {
	if !k.on() {
		return
	}
	if err := k.replaceFile(); err != nil {
		k.t.b.log.Error("bus: table snapshot cannot be written", "topic", k.t.cfg.Topic, "error", err)
		k.changed() // the next round tries again
	}
}

func (k *keeper[T]) replaceFile() error {
	raw := map[string][]byte{}
	for key, value := range k.t.All {
		encoded, err := k.t.cfg.Encode(value)
		if err != nil {
			return errors.New("a value cannot be encoded")
		}
		raw[key] = encoded
	}
	var content bytes.Buffer
	if err := gob.NewEncoder(&content).Encode(raw); err != nil {
		return err
	}
	return writeFile(k.t.cfg.Snapshot, content.Bytes())
}

// writeFile replaces path whole or not at all, also when the machine stops.
func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
