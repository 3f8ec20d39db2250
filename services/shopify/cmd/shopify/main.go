// Command shopify runs the shopify service of Tributary; its settings are in the service's README.
package main

import (
	"tributary.dev/libs/app"
	"tributary.dev/services/shopify"
)

func main() { app.Main(shopify.Service) }
