package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
)

// figure is one measured value.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`

	floor, limit *float64
}

// atLeast gives a figure its floor.
func (f figure) atLeast(floor float64) figure { f.floor = &floor; return f }

// atMost gives a figure its limit.
func (f figure) atMost(limit float64) figure { f.limit = &limit; return f }

// bound says what the figure is held to, and whether it holds.
func (f figure) bound() (what string, held bool) {
	switch {
	case f.floor != nil:
		return fmt.Sprintf("at least %.4g", *f.floor), f.Value >= *f.floor
	case f.limit != nil:
		return fmt.Sprintf("at most %.4g", *f.limit), f.Value <= *f.limit
	}
	return "", true
}

// writeTable prints the figures, and gives how many missed their bound.
func writeTable(out io.Writer, figures []figure) (missed int) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "figure\tvalue\tunit\tbound\t")
	for _, f := range figures {
		bound, held := f.bound()
		verdict := ""
		switch {
		case !held:
			verdict = "MISSED"
			missed++
		case bound != "":
			verdict = "met"
		}
		fmt.Fprintf(table, "%s\t%.5g\t%s\t%s\t%s\n", f.Name, f.Value, f.Unit, bound, verdict)
	}
	_ = table.Flush() // a terminal that is gone
	return missed
}

func writeJSON(path string, figures []figure) error {
	if figures == nil {
		figures = []figure{}
	}
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile of at least one value: the smallest that at least a share of all does not exceed.
func percentile(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(float64(len(sorted))*share))-1)]
}
