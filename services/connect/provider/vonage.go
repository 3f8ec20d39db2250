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
	"strings"
	"time"
)

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
