// Command telegram runs the telegram service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/telegram"
)

func main() { app.Main(telegram.Service) }
