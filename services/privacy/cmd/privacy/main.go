// Command privacy runs the privacy service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/privacy"
)

func main() { app.Main(privacy.Service) }
