package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/seal/canary"
)

func (s *story) erase(ctx context.Context) error {
	var requests []string
	for _, contact := range []string{s.annaContact, s.carlaContact} {
		r, err := s.api.Call(ctx, "POST", "/v1/privacy/requests", mesh.Object{"type": "erasure", "contact_id": contact}, http.StatusCreated)
		if err != nil {
			return err
		}
		requests = append(requests, r.Text("id"))
	}
	for i, id := range requests {
		step := ""
		if err := mesh.Eventually(ctx, 60*time.Second, func() error {
			r, err := s.api.Call(ctx, "GET", "/v1/privacy/requests/"+id, nil, http.StatusOK)
			if err != nil {
				return err
			}
			if i == 0 && r.Text("step") != step {
				step = r.Text("step")
				say("%s  %s", time.Now().Format(time.TimeOnly), step)
			}
			if r.Text("status") != "completed" {
				return fmt.Errorf("the request is %s (%s) %s", r.Text("status"), r.Text("step"), r.Text("failed"))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if err := s.gone(ctx); err != nil {
		return err
	}
	var err error
	if s.left, err = s.shown(ctx); err != nil {
		return err
	}
	if len(s.left) != 1 {
		return fmt.Errorf("%d conversations are left, not Ben's alone", len(s.left))
	}
	if _, _, err := s.conversation(ctx, s.ben); err != nil {
		return err
	}
	say("Annabelle (Slack) and Carla (SMS): their contacts are 410, their conversations and words are gone; Ben's are there")
	status, file, err := s.api.Raw(ctx, "GET", "/v1/privacy/requests/"+requests[0]+"/certificate", nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("certificate: %d %w", status, err)
	}
	s.certificate = filepath.Join(s.data, "certificate.json")
	return os.WriteFile(s.certificate, file, 0o600)
}

// gone wants the API to show nothing of the erased.
func (s *story) gone(ctx context.Context) error {
	for _, contact := range []string{s.annaContact, s.carlaContact} {
		if _, err := s.api.Call(ctx, "GET", "/v1/contacts/"+contact, nil, http.StatusGone); err != nil {
			return err
		}
	}
	for _, text := range slices.Concat(s.anna, s.carla) {
		words := strings.Fields(text)
		found, err := s.api.Call(ctx, "GET", "/v1/messages/search?q="+url.QueryEscape(strings.Join(words[len(words)-2:], " ")), nil, http.StatusOK)
		if err != nil {
			return err
		}
		if n := len(found.List("items")); n != 0 {
			return fmt.Errorf("search still finds %d messages", n)
		}
	}
	return nil
}

func (s *story) verify(ctx context.Context) error {
	status, key, err := s.api.Raw(ctx, "GET", "/v1/privacy/certificate-key", nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("public key: %d %w", status, err)
	}
	keyFile := filepath.Join(s.data, "certificate-key.pem")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		return err
	}
	if out, err := s.mesh.Tributary(ctx, "verify-certificate", "--key", keyFile, s.certificate); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	file, err := os.ReadFile(s.certificate)
	if err != nil {
		return err
	}
	var signed struct {
		Certificate struct {
			Holders []struct {
				Name    string           `json:"name"`
				Deleted map[string]int64 `json:"deleted"`
			} `json:"holders"`
			BackupsUnreadableFrom time.Time `json:"backups_unreadable_from"`
		} `json:"certificate"`
	}
	if err := json.Unmarshal(file, &signed); err != nil {
		return err
	}
	for _, h := range signed.Certificate.Holders {
		say("%s deleted %v", h.Name, h.Deleted)
	}
	say("backups of the key registry open nothing of hers from %s on", signed.Certificate.BackupsUnreadableFrom.Format(time.RFC3339))
	for i := range 20 {
		flipped := slices.Clone(file)
		flipped[rand.IntN(len(flipped))] ^= 1 << rand.IntN(8)
		name := filepath.Join(s.data, fmt.Sprintf("flipped-%d.json", i))
		if err := os.WriteFile(name, flipped, 0o600); err != nil {
			return err
		}
		if _, err := s.mesh.Tributary(ctx, "verify-certificate", "--key", keyFile, name); err == nil {
			return fmt.Errorf("%s, a certificate with a flipped bit, was accepted", name)
		}
	}
	say("it checks with the public key alone; 20 copies with one flipped bit each were refused")
	return nil
}

func (s *story) replay(ctx context.Context) error {
	again := slices.Clone(s.sent)
	rand.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
	if err := s.deliver(ctx, 4, again); err != nil {
		return err
	}
	if err := s.mesh.Drained(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.wantShown(ctx, s.left), s.sentOnce()); err != nil {
		return err
	}
	say("%d old webhooks again, in another order: the API's answers are byte for byte the same, nothing was sent again", len(again))
	fresh := fmt.Sprintf("%d.000050", time.Now().Unix()) // what she wrote before the erasure would be dropped
	if err := s.deliver(ctx, 1, []delivery{s.slackDelivery("Ev50", standin.SlackMessage("D0ANNA", "im", s.annaUser, fresh, "", s.annaAgain))}); err != nil {
		return err
	}
	return mesh.Eventually(ctx, 15*time.Second, func() error {
		id, _, err := s.conversation(ctx, s.annaAgain)
		if err != nil {
			return err
		}
		contact, err := s.contactOf(ctx, id)
		if err != nil {
			return err
		}
		if contact == s.annaContact {
			return errors.New("who writes again after an erasure must be a new person")
		}
		say("she writes something new: a new person, with nothing of the old")
		return nil
	})
}

func (s *story) sweep(ctx context.Context) error {
	return mesh.Eventually(ctx, 30*time.Second, func() error {
		n, err := s.mesh.Metric(ctx, "tributary_registry_swept_subjects_total")
		if err != nil {
			return err
		}
		if n < 1 {
			return errors.New("nothing was swept")
		}
		say("%.0f subject(s) that the replay had made, and that no holder stores anything for: destroyed", n)
		return nil
	})
}

// restored puts the backup from before the erasure beside the living key registry.
func (s *story) restored(ctx context.Context) error {
	if err := s.mesh.Stop(ctx); err != nil {
		return err
	}
	if err := s.restore(); err != nil {
		return err
	}
	s.mesh.Set("TRIBUTARY_CONVERSATION_RESTORED", "true")
	if err := s.mesh.Start(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.gone(ctx), s.wantShown(ctx, s.left), s.sentOnce()); err != nil {
		return err
	}
	say("it opens nothing of the erased, who were deleted again before the mesh was ready; Ben's words open as before")
	return nil
}

func (s *story) search(ctx context.Context) error {
	if err := s.mesh.Stop(ctx); err != nil {
		return err
	}
	if err := s.mesh.Dump(ctx); err != nil {
		return err
	}
	// The connection's id lies in the clear everywhere: where it is not found, the search is at fault.
	scanner := canary.New(append(s.canaries, s.smsConnection)...)
	var total canary.Scanned
	for _, root := range s.mesh.Written() {
		hits, scanned, err := scanner.TreeSince(root, s.began)
		if err != nil {
			return err
		}
		searched := false
		for _, h := range hits {
			switch {
			case h.Needle == s.smsConnection:
				searched = true
			case h.Needle == s.api.Key && filepath.Base(h.File) == "api-key": // where it is meant to lie
			default:
				return fmt.Errorf("found: %s", h)
			}
		}
		if !searched {
			return fmt.Errorf("%s holds nothing of this mesh: the search is at fault", root)
		}
		total.Files += scanned.Files
		total.Bytes += scanned.Bytes
	}
	say("%d files, %.1f MB of topics, databases, backup, spools, objects, logs and traces: no word, name, number or secret, in any encoding", total.Files, float64(total.Bytes)/1e6)
	return nil
}
