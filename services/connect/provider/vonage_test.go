package provider

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newKey is an application's, as its owner downloads it.
func newKey(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func TestVonageApplications(t *testing.T) {
	key, privateKey := newKey(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/conversations", func(w http.ResponseWriter, r *http.Request) {
		signed, signature, _ := cutLast(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
		raw, _ := base64.RawURLEncoding.DecodeString(signature)
		sum := sha256.Sum256([]byte(signed))
		_, body, _ := strings.Cut(signed, ".")
		claims, _ := base64.RawURLEncoding.DecodeString(body)
		var c struct {
			ApplicationID string `json:"application_id"`
			IAT, EXP      int64
			JTI           string
		}
		if rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], raw) != nil || json.Unmarshal(claims, &c) != nil ||
			c.ApplicationID != "app" || c.JTI == "" || c.EXP <= time.Now().Unix() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"_embedded":{"conversations":[]}}`))
	})
	vonage := made(t, mux).Of("sms", map[string]string{"provider": "vonage"}).(Checker)
	check := func(application, key string) error {
		return vonage.Check(t.Context(), App{}, Account{ExternalID: "+41445550100", Credentials: map[string]string{"application_id": application, "private_key": key}})
	}
	require.NoError(t, check("app", privateKey))
	require.NoError(t, check("app", strings.ReplaceAll(privateKey, "\n", `\n`)), "as people paste it")
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	require.NoError(t, check("app", string(pkcs1)))
	fault(t, check("another", privateKey), "http_401", "credentials/private_key", true)
	for _, none := range []string{"", "canary", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n"} {
		fault(t, check("app", none), "not_a_key", "credentials/private_key", true)
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
