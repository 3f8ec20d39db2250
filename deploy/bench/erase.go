package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tributary.dev/deploy/mesh"
)

// erase measures the erasure of the talker, who wrote every hundredth of the messages: what is done for it, and,
// apart from that, the wait until no cache can hold a key. Both stand in the certificate.
func erase(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.filled(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.serveDrained(ctx); err != nil {
		return nil, err
	}
	contact, err := f.talker(ctx)
	if err != nil {
		return nil, err
	}
	made, err := f.api.Call(ctx, http.MethodPost, "/v1/privacy/requests", mesh.Object{"type": "erasure", "contact_id": contact}, http.StatusCreated)
	if err != nil {
		return nil, err
	}
	request := "/v1/privacy/requests/" + made.Text("id")
	if err := mesh.Eventually(ctx, 5*time.Minute, func() error {
		r, err := f.api.Call(ctx, http.MethodGet, request, nil, http.StatusOK)
		if err == nil && r.Text("status") != "completed" {
			err = fmt.Errorf("the request is %s (%s) %s", r.Text("status"), r.Text("step"), r.Text("failed"))
		}
		return err
	}); err != nil {
		return nil, err
	}
	signed, err := f.api.Call(ctx, http.MethodGet, request+"/certificate", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	fields, _ := signed["certificate"].(map[string]any)
	c := mesh.Object(fields)
	at := func(name string) time.Time {
		t, wrong := time.Parse(time.RFC3339, c.Text(name))
		err = errors.Join(err, wrong)
		return t
	}
	wait := at("caches_empty_at").Sub(at("frozen_at"))
	whole := at("issued_at").Sub(at("received_at"))
	if err != nil {
		return nil, err
	}
	deleted := 0.0
	for _, h := range c.List("holders") {
		counts, _ := h["deleted"].(map[string]any)
		n, _ := counts["messages"].(float64)
		deleted += n
	}
	f.say("   %.0f messages were deleted", deleted)
	if want := f.events / talkerShare; int(deleted) < want {
		return nil, fmt.Errorf("%.0f messages were deleted, not %d", deleted, want)
	}
	// The database is no longer what CopyFrom is to copy.
	f.shared.drained = false
	return []figure{
		{Name: "erase_work_seconds", Value: (whole - wait).Seconds(), Unit: "s"},
		{Name: "erase_wait_seconds", Value: wait.Seconds(), Unit: "s"},
	}, f.StopProcess(ctx, "conversation")
}

// talker is the contact with the most messages.
func (f *filled) talker(ctx context.Context) (string, error) {
	id, err := query[string](ctx, f.served, `SELECT c.contact_id FROM conversations c JOIN
		(SELECT conversation_id, count(*) AS n FROM messages GROUP BY 1 ORDER BY n DESC LIMIT 1) m ON m.conversation_id = c.id`)
	if err == nil && id == "" {
		err = errors.New("nobody wrote the most")
	}
	return id, err
}
