package connect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// links are the addresses by which accounts' owners come, and what binds an authorisation to the browser that began
// it. All of it is made of a secret that the replicas share, so that the database holds nothing to come in with.
type links struct {
	secret []byte
	// secure: the mesh is reached by https, so cookies may be bound to that.
	secure bool
}

// path of an authorisation's page: its id, and what nobody can make of an id.
func (l links) path(id string) string { return "/connect/" + id + "." + l.mac("link", id) }

// open gives the id of a link's last segment.
func (l links) open(segment string) (id string, ok bool) {
	id, mac, _ := strings.Cut(segment, ".")
	return id, hmac.Equal([]byte(mac), []byte(l.mac("link", id)))
}

// verifier of PKCE for a state. The state itself is stored by its hash alone.
func (l links) verifier(state string) string { return l.mac("verifier", state) }

// formToken goes with every form of an authorisation's page, for one browser.
func (l links) formToken(id, browser string) string { return l.mac("form", id+"."+browser) }

func (l links) mac(purpose, of string) string {
	h := hmac.New(sha256.New, l.secret)
	h.Write([]byte(purpose + "\x00" + of))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// cookieName of an authorisation: several may be under way in one browser.
func (l links) cookieName(id string) string {
	name := "tributary-connect-" + id
	if l.secure {
		return "__Host-" + name
	}
	return name
}

// browserOf is what the browser was given when it first saw the page; "" if nothing.
func (l links) browserOf(r *http.Request, id string) string {
	c, err := r.Cookie(l.cookieName(id))
	if err != nil {
		return ""
	}
	return c.Value
}

// mark gives a browser a random word of its own. Lax: it must come along when the provider sends the browser back.
func (l links) mark(w http.ResponseWriter, id string) (browser string) {
	browser = rand.Text()
	c := &http.Cookie{
		Name: l.cookieName(id), Value: browser, Path: "/connect",
		//bound:exempt authorisationFor says it
		MaxAge: int(authorisationFor.Seconds()), HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: l.secure,
	}
	if l.secure {
		c.Path = "/" // the prefix __Host- asks for it
	}
	http.SetCookie(w, c)
	return browser
}

// digest is how states and browsers are stored.
func digest(word string) []byte {
	sum := sha256.Sum256([]byte(word))
	return sum[:]
}
