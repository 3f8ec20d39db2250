package provider

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
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

// vonage asks, as the application, for its conversations: a call that costs nothing and that every application may
// make (https://developer.vonage.com/en/getting-started/concepts/authentication).
type vonage struct {
	url string
	api caller
	now func() time.Time
}

func (v *vonage) Check(ctx context.Context, _ App, a Account) error {
	token, err := v.token(a.Credentials["application_id"], a.Credentials["private_key"])
	if err != nil {
		return &Fault{Code: "not_a_key", Field: "credentials/private_key", Void: true}
	}
	status, _, err := v.api.do(ctx, request{method: http.MethodGet, url: v.url + "/v1/conversations?page_size=1", header: bearer(token)}, nil)
	switch {
	case err != nil || status/100 == 2:
		return err
	case status == http.StatusUnauthorized:
		return &Fault{Code: "http_401", Field: "credentials/private_key", Void: true}
	}
	return statusFault(status)
}

var errNoPEM = errors.New("provider: no PEM")

// token is a JWT (RFC 7519) of an application, good for a minute.
func (v *vonage) token(application, privateKey string) (string, error) {
	block, _ := pem.Decode([]byte(strings.ReplaceAll(privateKey, `\n`, "\n")))
	if block == nil {
		return "", errNoPEM
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return "", err
		}
		var ok bool
		if key, ok = parsed.(*rsa.PrivateKey); !ok {
			return "", x509.ErrUnsupportedAlgorithm
		}
	}
	now := v.now().Unix()
	claims, err := json.Marshal(map[string]any{"application_id": application, "iat": now, "exp": now + 60, "jti": rand.Text()})
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
