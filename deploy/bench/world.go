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
	"tributary.dev/libs/channel/standin"
)

// world is a mesh, a process a service, with a Slack team connected to it.
type world struct {
	*mesh.Mesh
	api   *mesh.Client
	slack *standin.Slack
	// providers of the other channels.
	providers []providers.Provider
	host      *providers.Host
	// connection is the id of the team's.
	connection string
}

// backbone is what carries Slack's messages, with a second channel beside it.
var backbone = []string{"conversation", "privacy", "connect", "slack", "sms"}

// newWorld starts one of each service named, or of the backbone; connect must be among them. close it.
func (e *env) newWorld(ctx context.Context, only ...string) (w *world, err error) {
	if len(only) == 0 {
		only = backbone
	}
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	// Everybody who writes is somebody that Slack does not know: nothing follows from asking for their name.
	if w.slack, err = standin.NewSlack("127.0.0.1:0", nil, nil); err != nil {
		return w, err
	}
	w.host = &providers.Host{}
	if w.providers, err = providers.Start(w.host); err != nil {
		return w, err
	}
	settings := providers.Settings(w.providers)
	settings["TRIBUTARY_SLACK_API_URL"] = w.slack.APIURL()
	settings["TRIBUTARY_KAFKA_PARTITIONS"] = "32" // what the mesh makes by itself
	if w.Mesh, err = mesh.New(mesh.Config{
		Bin: e.bin, Data: e.dir, Real: true, Only: only, Untraced: true, Profiled: e.profiles != "", Settings: settings,
	}); err != nil {
		return w, err
	}
	w.host.Public = w.URL
	if e.cacheTTL > 0 {
		w.Set("TRIBUTARY_CACHE_TTL", e.cacheTTL.String())
	}
	if err = w.Start(ctx); err != nil {
		return w, err
	}
	if w.api, err = w.Client(); err != nil {
		return w, err
	}
	made, err := w.api.Call(ctx, http.MethodPost, "/v1/apps", mesh.Object{
		"channel": "slack", "name": "bench", "external_id": app, "secrets": mesh.Object{"signing_secret": secret}}, 201)
	if err != nil {
		return w, err
	}
	made, err = w.api.Call(ctx, http.MethodPost, "/v1/connections", mesh.Object{
		"channel": "slack", "name": "Bench", "external_id": team, "app_id": made.Text("id"),
		"credentials": mesh.Object{"bot_token": "xoxb-bench"}}, 201)
	w.connection = made.Text("id")
	return w, err
}

// close ends it and removes what it has outside its folder.
func (w *world) close() error {
	var errs []error
	if w.Mesh != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, w.Close(ctx))
	}
	if w.slack != nil {
		errs = append(errs, w.slack.Close())
	}
	return errors.Join(append(errs, providers.Close(w.providers))...)
}

// provider by its name; there is one.
func (w *world) provider(name string) providers.Provider {
	return w.providers[slices.IndexFunc(w.providers, func(p providers.Provider) bool { return p.Name() == name })]
}

// address of one of its processes.
func (w *world) address(service string) (string, error) {
	p, err := w.Process(service)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(p.URL, "http://"), nil
}

// cpuOf a process while do ran.
func cpuOf(pid int, do func() error) (time.Duration, error) {
	before, err := mesh.CPU(pid)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := mesh.CPU(pid)
	if err != nil {
		return 0, err
	}
	return after - before, nil
}

// settled waits until the consumers of a service, or of every one, have handled everything.
func (w *world) settled(ctx context.Context, within time.Duration, services ...string) error {
	return mesh.Eventually(ctx, within, func() error {
		for _, p := range w.Processes() {
			if len(services) > 0 && !slices.Contains(services, p.Name) {
				continue
			}
			lag, err := p.Metric(ctx, "tributary_consumer_lag_records")
			if err == nil && lag > 0 {
				err = fmt.Errorf("%s: %.0f records are not handled yet", p.Name, lag)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
