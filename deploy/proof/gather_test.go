package main

import (
	"io"
	"strings"
	"sync"
)

// gathered is what a stream has told.
type gathered struct {
	mu   sync.Mutex
	text strings.Builder
	from int
}

// gather reads a stream until it ends.
func gather(r io.Reader) *gathered {
	g := &gathered{}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			g.mu.Lock()
			g.text.Write(buf[:n])
			g.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return g
}

// mark begins what since gives.
func (g *gathered) mark() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.from = g.text.Len()
}

func (g *gathered) since() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()[g.from:]
}
