package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
)

// startOthers stands in for the providers that the story does not tell of at length.
func (s *story) startOthers() error {
	all, err := providers.Start(&providers.Host{})
	s.others = slices.DeleteFunc(all, func(p providers.Provider) bool {
		told := p.Name() == "Slack" || p.Name() == "Twilio"
		if told {
			err = errors.Join(err, p.Close())
		}
		return told
	})
	return err
}

// elsewhere lets a person write over each of the other channels, and answers.
func (s *story) elsewhere(ctx context.Context) error {
	for n, p := range s.others {
		if err := p.Connect(ctx, s.api); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		words, reply := "Greetings by "+p.Name(), "And back by "+p.Name()
		hook := p.Says(1, n+1, words, time.Now())
		delivered := delivery{hook.Path, hook.Body, func([]byte) http.Header { return hook.Header }}
		if err := s.deliver(ctx, 1, []delivery{delivered, delivered}); err != nil { // twice, as providers do
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		id := ""
		if err := mesh.Eventually(ctx, 15*time.Second, func() (err error) {
			id, _, err = s.conversation(ctx, words)
			return err
		}); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		m, err := s.api.Call(ctx, http.MethodPost, "/v1/conversations/"+id+"/messages", mesh.Object{"text": reply}, http.StatusCreated)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		if err := mesh.Eventually(ctx, 15*time.Second, func() error {
			sent, err := s.api.Call(ctx, http.MethodGet, "/v1/messages/"+m.Text("id"), nil, http.StatusOK)
			if taken := p.Taken(); err == nil && (len(taken) != 1 || !strings.Contains(taken[0].Text, reply) || sent.Text("status") != "sent") {
				err = fmt.Errorf("%s has %+v, and the reply is %q", p.Name(), taken, sent.Text("status"))
			}
			return err
		}); err != nil {
			return err
		}
		say("%-10s  in: %q, sent twice, there once   out: %q", p.Name(), words, reply)
	}
	return nil
}
