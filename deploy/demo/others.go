package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
)

// startOthers stands in for the providers that the story does not tell of at length.
func (s *story) startOthers() error {
	s.host = &providers.Host{}
	all, err := providers.Start(s.host)
	s.others = slices.DeleteFunc(all, func(p providers.Provider) bool {
		told := p.Name() == "Slack" || p.Name() == "Twilio"
		if told {
			err = errors.Join(err, p.Close())
		}
		return told
	})
	return err
}

// order has a person order something at a shop, and finds it on their contact; then it has the shop note something on it.
func (s *story) order(ctx context.Context, shop providers.Shop) error {
	const note, ours = "Ring twice, please", "Left with the neighbour"
	s.host.Public = s.mesh.URL
	hook := shop.Says(1, 1, note, time.Now().Add(-time.Minute)) // Shopify's times are whole seconds: the change is a later one
	shop.Keep(hook)
	delivered := delivery{hook.Path, hook.Body, func([]byte) http.Header { return hook.Header }}
	if err := s.deliver(ctx, 1, []delivery{delivered, delivered}); err != nil {
		return err
	}
	order, err := s.ordered(ctx, shop, note)
	if err != nil {
		return err
	}
	say("%-10s  in: order %s of %s %s, sent twice, there once, on the contact with its number", shop.Name(),
		order.Text("number"), order.Text("currency"), order.Text("total"))
	at := "/v1/connections/" + order.Text("connection_id")
	if _, err := s.api.Call(ctx, http.MethodPut, at+"/orders/"+order.Text("id")+"/note", mesh.Object{"text": ours}, http.StatusOK); err != nil {
		return err
	}
	if _, err := s.api.Call(ctx, http.MethodPut, at+"/customers/"+order.Text("customer_id")+"/tags", mesh.Object{"tags": []string{"regular"}}, http.StatusOK); err != nil {
		return err
	}
	if _, err := s.ordered(ctx, shop, ours); err != nil {
		return err
	}
	say("%-10s  out: the order's note and its customer's tags; the shop told of the note", shop.Name())
	return nil
}

// ordered is the one order of a person's contact, once it has the note.
func (s *story) ordered(ctx context.Context, shop providers.Shop, note string) (order mesh.Object, err error) {
	err = mesh.Eventually(ctx, 15*time.Second, func() error {
		query := url.Values{"identity_kind": {"phone"}, "identity": {shop.Phone(1)}}
		found, err := s.api.Call(ctx, http.MethodGet, "/v1/contacts?"+query.Encode(), nil, http.StatusOK)
		if err != nil || len(found.List("items")) != 1 {
			return errors.Join(err, fmt.Errorf("%d contacts have the number of the order", len(found.List("items"))))
		}
		orders, err := s.api.Call(ctx, http.MethodGet, "/v1/contacts/"+found.List("items")[0].Text("id")+"/orders", nil, http.StatusOK)
		if err != nil {
			return err
		}
		items := orders.List("items")
		if len(items) != 1 || items[0].Text("note") != note || items[0].Text("total") == "" {
			return fmt.Errorf("the contact's orders are %v", items)
		}
		order = items[0]
		return nil
	})
	return order, err
}

// elsewhere lets a person write over each of the other channels, and answers.
func (s *story) elsewhere(ctx context.Context) error {
	for n, p := range s.others {
		if err := p.Connect(ctx, s.api); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		if shop, ok := p.(providers.Shop); ok {
			if err := s.order(ctx, shop); err != nil {
				return fmt.Errorf("%s: %w", p.Name(), err)
			}
			continue
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
