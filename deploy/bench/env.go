package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// env is what a measure is given.
type env struct {
	window time.Duration // of each side of a round
	rounds int
	scale  float64
	bin    string // folder of the mesh's binaries
	dir    string // the measure's own folder; removed when all went well

	// busy: the machine has other work to do, and what it spools meanwhile is no fault of the measure's.
	busy bool

	cacheTTL time.Duration // how long the mesh keeps plain keys; 0: as long as it does by itself

	profiles string   // folder for CPU profiles of the mesh's processes; "": none are taken
	kafka    []string // brokers
	postgres string   // URL of the server's postgres database

	out io.Writer

	shared *shared
}

// shared is what measures leave for those after them.
type shared struct {
	filled  *filled
	drained bool // all of it, once
}

// close may be called again.
func (s *shared) close() error {
	if s.filled == nil {
		return nil
	}
	f := s.filled
	s.filled, s.drained = nil, false
	return f.close()
}

func (e *env) validate() error {
	if e.window <= 0 || e.rounds < 1 || e.scale <= 0 {
		return errors.New("-window, -rounds and -scale must be more than 0")
	}
	return nil
}

// parts finds Kafka and PostgreSQL, as make services says where they are.
func (e *env) parts() error {
	if brokers := os.Getenv("TRIBUTARY_TEST_KAFKA"); brokers != "" {
		e.kafka = strings.Split(brokers, ",")
	}
	e.postgres = os.Getenv("TRIBUTARY_TEST_POSTGRES")
	if len(e.kafka) == 0 || e.postgres == "" {
		return errors.New("it needs Kafka and PostgreSQL: make services, and source .services/env")
	}
	return nil
}

// size is n scaled, and at least 1.
func (e *env) size(n int) int { return max(1, int(float64(n)*e.scale)) }

// say prints progress.
func (e *env) say(format string, args ...any) { fmt.Fprintf(e.out, format+"\n", args...) }

// side of a comparison runs for about a window and gives its rate, or whatever the comparison is of.
type side func(ctx context.Context) (float64, error)

// compared is what a comparison measured.
type compared struct {
	// ours and bare are the medians of the rounds, ratio the median of the rounds' ratios.
	ours, bare, ratio float64
}

// compare runs both sides in turn, as often as there are rounds, and prints each round.
func (e *env) compare(ctx context.Context, what string, ours, bare side) (compared, error) {
	var mine, theirs, ratios []float64
	for round := range e.rounds {
		a, err := ours(ctx)
		if err != nil {
			return compared{}, fmt.Errorf("%s, the mesh: %w", what, err)
		}
		b, err := bare(ctx)
		if err != nil {
			return compared{}, fmt.Errorf("%s, bare: %w", what, err)
		}
		if b <= 0 {
			return compared{}, fmt.Errorf("%s, bare: nothing was done in its window", what)
		}
		mine, theirs, ratios = append(mine, a), append(theirs, b), append(ratios, a/b)
		e.say("   %s %d/%d: mesh %.5g, bare %.5g, ratio %.3f", what, round+1, e.rounds, a, b, a/b)
	}
	return compared{median(mine), median(theirs), median(ratios)}, nil
}
