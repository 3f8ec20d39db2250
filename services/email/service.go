package email

import (
	"net/netip"

	"tributary.dev/libs/adapter"
	"tributary.dev/libs/app"
	"tributary.dev/libs/channel"
)

// Service is the channel's service.
var Service = adapter.Service("email",
	func() any { return DefaultConfig() },
	func(d *app.Deps) (channel.Adapter, error) {
		deps := Deps{HTTP: d.HTTP, Secret: d.Secret("email")}
		for _, cidr := range d.Common.MediaAllow {
			deps.Inside = append(deps.Inside, netip.MustParsePrefix(cidr)) // validated with the other settings
		}
		return New(*d.Settings.(*Config), deps)
	},
)
