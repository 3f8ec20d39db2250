package mesh

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metric sums a metric over all processes and the series that have every label given (`reason="decode"`).
func (m *Mesh) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	var sum float64
	for _, p := range m.processes {
		value, err := p.Metric(ctx, name, labels...)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// Metric sums a metric of the process over the series that have every label given.
func (p *Process) Metric(ctx context.Context, name string, labels ...string) (sum float64, err error) {
	status, body, err := NewClient(p.URL).Send(ctx, http.MethodGet, "/metrics", http.Header{}, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %.300s", status, body)
	}
	if err != nil {
		return 0, fmt.Errorf("/metrics of %s: %w", p.Name, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || (rest[0] != '{' && rest[0] != ' ') || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// Drained waits until the consumers have handled everything.
func (m *Mesh) Drained(ctx context.Context) error {
	return Eventually(ctx, 20*time.Second, func() error {
		for range 5 { // lag is measured in passing: it must stay 0
			lag, err := m.Metric(ctx, "tributary_consumer_lag_records")
			if err != nil {
				return err
			}
			if lag != 0 {
				return fmt.Errorf("%.0f records are not handled yet", lag)
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	})
}

// Resident is the memory that all processes hold, in bytes.
func (m *Mesh) Resident() (int64, error) {
	var sum int64
	for _, p := range m.processes {
		bytes, err := p.Resident()
		if err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum, nil
}

// Written are the folders that hold everything the mesh wrote.
func (m *Mesh) Written() []string {
	if m.real == nil {
		return []string{m.cfg.Data}
	}
	return append([]string{m.cfg.Data}, m.real.parts.written...)
}
