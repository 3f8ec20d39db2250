// Command slack runs the slack service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/slack"
)

func main() { app.Main(slack.Service) }
