package provider

import (
	"context"
	"encoding/json"
	"net/http"
)

// postmark asks which server a token is of (https://postmarkapp.com/developer/api/server-api).
type postmark struct {
	url string
	api caller
}

func (p *postmark) Check(ctx context.Context, _ App, a Account) error {
	status, refusal, err := p.api.do(ctx, request{
		method: http.MethodGet, url: p.url + "/server", header: http.Header{"X-Postmark-Server-Token": {a.Credentials["server_token"]}},
	}, nil)
	if err != nil || status/100 == 2 {
		return err
	}
	var answer struct{ ErrorCode int }
	if json.Unmarshal(refusal, &answer) == nil && status == http.StatusUnauthorized && answer.ErrorCode == 10 {
		return &Fault{Code: "10", Field: "credentials/server_token", Void: true}
	}
	return statusFault(status)
}
