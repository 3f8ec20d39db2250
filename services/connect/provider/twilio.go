package provider

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// twilio asks after an account and its numbers (https://www.twilio.com/docs/iam/api/account).
type twilio struct {
	url string
	api caller
}

func (t *twilio) Check(ctx context.Context, _ App, a Account) error {
	account := t.url + "/2010-04-01/Accounts/" + url.PathEscape(a.Credentials["account_sid"])
	r := request{method: http.MethodGet, url: account + ".json", header: basic(a.Credentials["account_sid"], a.Credentials["auth_token"])}
	var is struct{ Status string }
	if err := t.call(ctx, r, &is); err != nil {
		return err
	}
	if is.Status == "suspended" || is.Status == "closed" {
		return &Fault{Code: "account_" + is.Status}
	}
	if !strings.HasPrefix(a.ExternalID, "+") { // short codes, names and WhatsApp's senders are listed elsewhere
		return nil
	}
	var numbers struct {
		Found []struct{} `json:"incoming_phone_numbers"`
	}
	r.url = account + "/IncomingPhoneNumbers.json?" + url.Values{"PhoneNumber": {a.ExternalID}, "PageSize": {"1"}}.Encode()
	if err := t.call(ctx, r, &numbers); err != nil {
		return err
	}
	if numbers.Found != nil && len(numbers.Found) == 0 {
		return &Fault{Code: "not_the_accounts", Field: "external_id"}
	}
	return nil
}

// call: only Twilio itself may say that a token is wrong (https://www.twilio.com/docs/api/errors/20003), or an account.
func (t *twilio) call(ctx context.Context, r request, out any) error {
	status, refusal, err := t.api.do(ctx, r, out)
	if err != nil || status/100 == 2 {
		return err
	}
	var answer struct{ Code int }
	if json.Unmarshal(refusal, &answer) != nil || answer.Code == 0 {
		return statusFault(status)
	}
	f := &Fault{Code: strconv.Itoa(answer.Code)}
	switch {
	case status == http.StatusUnauthorized && answer.Code == 20003:
		f.Void, f.Field = true, "credentials/auth_token"
	case status == http.StatusNotFound && answer.Code == 20404:
		f.Void, f.Field = true, "credentials/account_sid"
	}
	return f
}

func basic(user, password string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}}
}
