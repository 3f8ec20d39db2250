package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// telegram asks which bot a token is of (https://core.telegram.org/bots/api#getme).
type telegram struct {
	url string
	api caller
}

// Check has the token in the address, as Telegram wants it, so no error may carry that.
func (t *telegram) Check(ctx context.Context, _ App, a Account) error {
	id, _, _ := strings.Cut(a.Credentials["bot_token"], ":")
	if id != a.ExternalID {
		return &Fault{Code: "other_account", Field: "external_id"}
	}
	var me struct {
		Result struct {
			ID int64 `json:"id"`
		} `json:"result"`
	}
	status, _, err := t.api.do(ctx, request{method: http.MethodPost, url: t.url + "/bot" + a.Credentials["bot_token"] + "/getMe"}, &me)
	var addressed *url.Error
	switch {
	case errors.As(err, &addressed):
		return addressed.Err
	case err != nil:
		return err
	case status == http.StatusUnauthorized || status == http.StatusNotFound: // 404: a token that can't be one
		return &Fault{Code: "401", Field: "credentials/bot_token", Void: true}
	case status/100 != 2:
		return statusFault(status)
	case strconv.FormatInt(me.Result.ID, 10) != a.ExternalID:
		return &Fault{Code: "other_account", Field: "external_id"}
	}
	return nil
}
