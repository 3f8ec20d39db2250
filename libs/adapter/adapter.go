// Package adapter makes a service of a channel's adapter: ingress before it, egress behind it, and what
// both share. It is the same for every channel.
package adapter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"tributary.dev/libs/accounts"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/egress"
	"tributary.dev/libs/ingress"
	"tributary.dev/libs/media"
)

// outboundKept is no longer than the brokers keep offsets: a sender that finds none must not begin anew.
const outboundKept = 3 * 24 * time.Hour

// Service makes the service of a channel. config gives its settings with their defaults (see
// app.Service.Config); new makes the adapter of d.Settings.
func Service(name string, config func() any, new func(d *app.Deps) (channel.Adapter, error)) app.Service {
	needs := []string{app.KeeperURL, app.BucketURL, app.RegistryToken}
	return app.Service{Name: name, Config: config, Needs: needs, Build: func(ctx context.Context, d *app.Deps) (*app.Parts, error) {
		features, ok := channel.Lookup(name)
		if !ok {
			return nil, fmt.Errorf("%s has no channel.yaml", name)
		}
		a, err := new(d)
		if err != nil {
			return nil, err
		}
		return build(ctx, d, a, features)
	}}
}

func build(ctx context.Context, d *app.Deps, a channel.Adapter, features channel.Features) (*app.Parts, error) {
	known, err := accounts.Open(ctx, d.Bus, accounts.Config{
		Channel: a.Name(), KeeperURL: d.Common.Keeper(a.Name()), SnapshotDir: d.DataDir,
	})
	if err != nil {
		return nil, err
	}
	cfg := ingress.Defaults(d.DataDir, features.BodyLimit)
	cfg.PublicURL, cfg.TrustedProxies, cfg.SpoolBytes = d.Common.PublicURL, d.Common.TrustedProxies, d.Common.SpoolBytes
	bucket, err := media.OpenBucket(ctx, d.Common.BucketURL)
	if err != nil {
		return nil, errors.Join(err, known.Close())
	}
	in, parts, err := ingress.Build(cfg, d, a, features, known, bucket)
	if err != nil {
		return nil, errors.Join(err, known.Close(), bucket.Close())
	}
	links := media.NewLinks(linkBase(d.Common.PublicURL, a.Name()), d.Secret("links"), bucket, d.Seal, d.Clock.Now)
	out, err := egress.New(egress.Config{
		PublicURL: d.Common.PublicURL, Late: d.Common.SendLate, LongestCall: d.Common.SendLongestCall,
		StopWithin: d.Common.StopTimeout * 4 / 5,
	}, egress.Deps{
		Adapter: a, Bus: d.Bus, Keys: d.Seal, Accounts: known, Clock: d.Clock, Telemetry: d.Telemetry,
		Receipts: in,
		Bucket:   bucket, Links: links, Media: media.NewClient(media.ClientConfig{Allowed: prefixes(d.Common.MediaAllow)}),
	})
	if err != nil {
		return nil, errors.Join(err, parts.Close(), bucket.Close())
	}
	parts.Topics = append(parts.Topics,
		bus.Topic{Name: "outbound." + a.Name(), Retention: outboundKept, OffsetsOutlive: true})
	parts.Jobs = append(parts.Jobs, app.Job{Name: "egress", Run: out.Run})
	if l, ok := a.(channel.Listener); ok {
		parts.Jobs = append(parts.Jobs, app.Job{Name: "listen", Run: func(ctx context.Context) error { return l.Listen(ctx, in) }})
	}
	if p, ok := a.(channel.Poller); ok {
		polls, err := newPoller(a.Name(), p, known, in, filepath.Join(d.DataDir, "poll"), d.Common.PollBack, d.Clock, d.Telemetry)
		if err != nil {
			return nil, errors.Join(err, parts.Close(), bucket.Close())
		}
		parts.Jobs = append(parts.Jobs, app.Job{Name: "poll", Run: polls.Run})
	}
	parts.Routes = append(parts.Routes, app.Route{Pattern: "GET /media/" + a.Name() + "/{token}", Handler: links, Public: true})
	close := parts.Close
	parts.Close = func() error { return errors.Join(close(), bucket.Close()) }
	return parts, nil
}

// linkBase is below what providers reach; empty where they reach nothing.
func linkBase(publicURL, channel string) string {
	if publicURL == "" {
		return ""
	}
	return strings.TrimSuffix(publicURL, "/") + "/media/" + channel
}

// prefixes of settings that were validated.
func prefixes(cidrs []string) []netip.Prefix {
	out := make([]netip.Prefix, len(cidrs))
	for i, c := range cidrs {
		out[i] = netip.MustParsePrefix(c)
	}
	return out
}
