package conversation

import _ "embed"

// openAPI is the service's part of /v1/openapi.yaml; package api's tests hold it against the handlers.
//
//go:embed openapi.yaml
var openAPI []byte
