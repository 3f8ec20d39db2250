// Command connect runs the connect service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/connect"
)

func main() { app.Main(connect.Service) }
