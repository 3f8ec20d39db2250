// Command bench measures a mesh on real Kafka and PostgreSQL, beside bare programs that do the least that
// the same work needs, prints a table and writes bench.json. It knows the mesh from outside only, and exits
// with 1 where a figure misses its floor.
//
// A ratio is the median of the ratios of several rounds; in a round both sides run one after the other for
// one window each. Every value of every round is printed as it is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measure is one thing to measure; it gives figures, and has its floors in them.
type measure struct {
	name string
	run  func(ctx context.Context, e *env) ([]figure, error)
	// long ones are run only where they are named.
	long bool
}

// measures in the order in which they are run.
func measures() []measure {
	all := []measure{
		{name: "ingest", run: ingest},
		{name: "ingest_256", run: ingest256},
		{name: "ingest_bus", run: ingestBus},
		{name: "ingest_cold", run: ingestCold},
		{name: "end_to_end", run: endToEnd},
		{name: "whole_way", run: wholeWay},
		{name: "rebalance", run: rebalance},
		{name: "idle", run: idle},
		{name: "read", run: read},
		{name: "send", run: send},
		{name: "slow", run: slow},
		{name: "erase", run: erase},
		{name: "drain", run: drain},
		{name: "large", run: large, long: true},
	}
	for i, a := range others {
		all = slices.Insert(all, 3+i, measure{name: "ingest_" + a.channel, run: ingestOf(a)})
	}
	return all
}

// bareArgument makes this program the bare side of the measures of ingest.
const bareArgument = "bare-handler"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == bareArgument {
		if err := serveBare(ctx, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the bare handler:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run gives the exit code: 0, 1 where something failed or missed its floor, 2 for what it can't be told.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	e := &env{out: stdout}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&e.bin, "bin", "bin", "folder of the mesh's binaries")
	flags.DurationVar(&e.window, "window", 20*time.Second, "how long each side of a round runs")
	flags.IntVar(&e.rounds, "rounds", 5, "rounds of a ratio")
	flags.Float64Var(&e.scale, "scale", 1, "share of the sizes that are not windows: events stored, events drained")
	flags.StringVar(&e.profiles, "profiles", "", "folder for CPU profiles of the mesh's processes in their windows; empty: none")
	chosen := flags.String("measure", "", "which measures, by name and with commas between; empty: all but the long ones")
	file := flags.String("json", "bench.json", "where the figures are written")
	list := flags.Bool("list", false, "list these measures, and measure nothing")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	selected, err := choose(*chosen)
	if err == nil {
		err = e.validate()
	}
	if err == nil && !*list {
		err = e.parts()
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if *list {
		for _, m := range selected {
			fmt.Fprintln(stdout, m.name)
		}
		return 0
	}
	figures, err := e.measure(ctx, selected)
	err = errors.Join(err, writeJSON(*file, figures))
	missed := writeTable(stdout, figures)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
	}
	if err != nil || missed > 0 {
		return 1
	}
	return 0
}

// choose measures by their names.
func choose(names string) ([]measure, error) {
	all := measures()
	if names == "" {
		return slices.DeleteFunc(all, func(m measure) bool { return m.long }), nil
	}
	var chosen []measure
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(m measure) bool { return m.name == strings.TrimSpace(name) })
		if i < 0 {
			known := make([]string, len(all))
			for j, m := range all {
				known[j] = m.name
			}
			return nil, fmt.Errorf("-measure: %q is none of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// measure runs measures one after the other, each in a folder of its own. One that fails does not keep the
// others from being measured.
func (e *env) measure(ctx context.Context, selected []measure) (figures []figure, err error) {
	if e.dir, err = os.MkdirTemp("", "tributary-bench-"); err != nil {
		return nil, err
	}
	var errs []error
	e.shared = &shared{}
	defer func() { err = errors.Join(err, e.shared.close()) }()
	for _, m := range selected {
		began := time.Now()
		e.say("── %s", m.name)
		one := *e
		one.dir = filepath.Join(e.dir, m.name)
		err := os.Mkdir(one.dir, 0o700)
		if err == nil {
			var measured []figure
			measured, err = m.run(ctx, &one)
			figures = append(figures, measured...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, err))
		}
		e.say("   %.0f s", time.Since(began).Seconds())
	}
	if len(errs) > 0 {
		return figures, errors.Join(append(errs, fmt.Errorf("logs and data are kept in %s", e.dir))...)
	}
	return figures, errors.Join(e.shared.close(), os.RemoveAll(e.dir))
}
