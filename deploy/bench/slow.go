package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// slowCallers promise a body and send it a byte at a time.
const slowCallers = 2000

// slow is what memory callers take who never come to an end, while others are served. They are cut off after the time
// that a body has; new ones take their places.
func slow(ctx context.Context, e *env) (figures []figure, err error) {
	w, err := e.newWorld(ctx, "slack", "privacy", "connect")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	p, err := w.Process("slack")
	if err != nil {
		return nil, err
	}
	address, err := w.address("slack")
	if err != nil {
		return nil, err
	}
	maker := newWebhooks(0, knownPeople)
	if _, err := hammer(ctx, address, 16, e.window/4, maker.next); err != nil {
		return nil, err
	}
	before, err := p.Resident()
	if err != nil {
		return nil, err
	}
	callers := e.size(slowCallers)
	open := make([]net.Conn, callers)
	defer func() {
		for _, c := range open {
			if c != nil {
				_ = c.Close() // it may have been cut off
			}
		}
	}()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	head := "POST " + webhookPath + " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n" +
		"X-Slack-Request-Timestamp: 0000000000\r\nX-Slack-Signature: v0=" + strings.Repeat("0", 64) + "\r\n\r\n{"
	for i := range open {
		if open[i], err = dialer.DialContext(ctx, "tcp", address); err != nil {
			return nil, err
		}
		if _, err := open[i].Write([]byte(head)); err != nil {
			return nil, err
		}
	}
	until := time.Now().Add(e.window)
	highest, served := int64(0), load{}
	for time.Now().Before(until) {
		for i, c := range open {
			if _, err := c.Write([]byte(" ")); err != nil { // cut off: another comes
				_ = c.Close()
				if open[i], err = dialer.DialContext(ctx, "tcp", address); err != nil {
					return nil, err
				}
				if _, err := open[i].Write([]byte(head)); err != nil {
					return nil, err
				}
			}
		}
		l, err := hammer(ctx, address, 16, e.window/10, maker.next)
		if err != nil {
			return nil, err
		}
		served.accepted, served.refused = served.accepted+l.accepted, served.refused+l.refused
		now, err := p.Resident()
		if err != nil {
			return nil, err
		}
		highest = max(highest, now)
	}
	if served.refused > 0 || served.accepted == 0 {
		return nil, fmt.Errorf("beside the slow ones %d webhooks were refused, %d accepted", served.refused, served.accepted)
	}
	e.say("   beside %d slow callers %d webhooks were accepted, none refused; the service had %.0f MB before", callers, served.accepted, float64(before)/1e6)
	return []figure{
		{Name: "slow_connections_rss_mb", Value: float64(highest) / 1e6, Unit: "MB"},
		{Name: "slow_connections_kb_each", Value: float64(max(highest-before, 1)) / 1e3 / float64(callers), Unit: "kB"},
	}, nil
}
