// Command messenger runs the messenger service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/messenger"
)

func main() { app.Main(messenger.Service) }
