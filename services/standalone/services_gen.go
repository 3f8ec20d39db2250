// Code generated from services/*/channel.yaml by make generate. DO NOT EDIT.

package standalone

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/connect"
	"tributary.dev/services/conversation"
	"tributary.dev/services/email"
	"tributary.dev/services/messenger"
	"tributary.dev/services/privacy"
	"tributary.dev/services/shopify"
	"tributary.dev/services/slack"
	"tributary.dev/services/sms"
	"tributary.dev/services/telegram"
)

// services of the mesh, in the order they start.
func services() []app.Service {
	return []app.Service{privacy.Service, connect.Service, conversation.Service, email.Service, messenger.Service, shopify.Service, slack.Service, sms.Service, telegram.Service}
}
