package telegram

import (
	"tributary.dev/libs/adapter"
	"tributary.dev/libs/app"
	"tributary.dev/libs/channel"
)

// Service is the channel's service.
var Service = adapter.Service("telegram",
	func() any { return DefaultConfig() },
	func(d *app.Deps) (channel.Adapter, error) { return New(*d.Settings.(*Config), d.HTTP), nil },
)
