package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := prove(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

// mostWebhooks that a scenario is run with: what the program remembers of each fits into memory.
const mostWebhooks = 10_000_000

// prove runs the scenarios that are asked for and tells whether all hold.
func prove(ctx context.Context) (ok bool, err error) {
	var o options
	var names, out string
	list := false
	flag.StringVar(&o.bin, "bin", "bin", "folder of the binaries")
	flag.StringVar(&o.parts, "parts", embedded, "embedded or real")
	flag.IntVar(&o.size, "n", 20_000, "webhooks of a scenario")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()%1_000_000), "repeats a run")
	flag.StringVar(&names, "scenario", "", "names, comma-separated; empty: all")
	flag.StringVar(&out, "out", "proof.json", "file of the results")
	flag.BoolVar(&list, "list", false, "list the scenarios")
	flag.Parse()
	if list {
		for _, s := range scenarios() {
			fmt.Printf("%-10s %s (%s)\n", s.name, s.harm, strings.Join(s.parts, ", "))
		}
		return true, nil
	}
	if o.size < 1 || o.size > mostWebhooks || flag.NArg() > 0 {
		return false, fmt.Errorf("-n is a number from 1 to %d, and nothing stands behind the flags", mostWebhooks)
	}
	chosen, err := choose(names, o.parts)
	if err != nil {
		return false, err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return false, err
	}
	folder, err := os.MkdirTemp("", "tributary-proof-")
	if err != nil {
		return false, err
	}
	o.own = &ownParts{}
	defer func() { err = errors.Join(err, o.own.close(context.WithoutCancel(ctx))) }()
	begun := time.Now()
	o.say = func(format string, a ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, a...))
	}
	fmt.Printf("N=%d SEED=%d PARTS=%s\n", o.size, o.seed, o.parts)
	if err := os.WriteFile(out, []byte("[]\n"), 0o644); err != nil {
		return false, err // now, and not when all is done
	}
	ok = true
	results := []result{}
	// What was found is told also where a later scenario could not be carried out.
	defer func() {
		printTable(results)
		raw, jsonErr := json.MarshalIndent(results, "", "  ")
		if jsonErr == nil {
			jsonErr = os.WriteFile(out, append(raw, '\n'), 0o644)
		}
		err = errors.Join(err, jsonErr)
		_ = os.Remove(folder) // unless something in it is to be looked at
	}()
	for _, s := range chosen {
		o.say("%s: %s", s.name, s.harm)
		o.data = filepath.Join(folder, s.name)
		r, err := s.carryOut(ctx, o)
		if err != nil {
			return false, fmt.Errorf("%w (its files lie in %s)", err, o.data)
		}
		results = append(results, r)
		for _, broken := range r.Broken {
			o.say("%s: BROKEN: %s", s.name, broken)
		}
		if !r.holds() {
			ok = false
			o.say("%s does not hold: its files lie in %s", s.name, o.data)
		} else if err := os.RemoveAll(o.data); err != nil {
			return false, err
		}
	}
	return ok, nil
}

// choose finds the scenarios of the names that apply to the parts.
func choose(names, parts string) (chosen []scenario, err error) {
	if parts != embedded && parts != real {
		return nil, fmt.Errorf("parts are embedded or real, not %q", parts)
	}
	wanted := strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
	if names != "" && len(wanted) == 0 {
		return nil, errors.New("-scenario names none")
	}
	for _, s := range scenarios() {
		i := slices.Index(wanted, s.name)
		if i >= 0 {
			wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == s.name })
		} else if names != "" {
			continue
		}
		if slices.Contains(s.parts, parts) {
			chosen = append(chosen, s)
		} else if i >= 0 {
			return nil, fmt.Errorf("%s runs with %s parts alone", s.name, strings.Join(s.parts, ", "))
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("no scenario is called %s; -list tells which there are", strings.Join(wanted, ", "))
	}
	return chosen, nil
}

func printTable(results []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\tparts\taccepted\tlost\tdoubled\tdisordered\tlate max (ms)\tseconds\t\t")
	for _, r := range results {
		verdict := "holds"
		if !r.holds() {
			verdict = fmt.Sprintf("FAILS (%d broken)", len(r.Broken))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.1f\t%s\t\n", r.Scenario, r.Parts, r.Accepted, r.Lost, r.Doubled, r.Disordered, r.LateMSMax, r.Seconds, verdict)
	}
	_ = w.Flush() // to the terminal
}
