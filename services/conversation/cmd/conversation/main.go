// Command conversation runs the conversation service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/conversation"
)

func main() { app.Main(conversation.Service) }
