package connect

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"tributary.dev/libs/access"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/connect/provider"
)

// exchangeWithin bounds all that is asked of a provider between its sending a browser back and the next page.
//
//bound:timeout asking a provider for what its accounts' owner granted | {} | the authorisation failed; it may be begun again
const exchangeWithin = 25 * time.Second

// refusal is a page that says why nothing was done. Nothing was changed either.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return "connect: " + r.text }

var (
	errNoLink       = &refusal{http.StatusNotFound, "This link is not known. Ask for a new one."}
	errOver         = &refusal{http.StatusGone, "This link has expired. Ask for a new one."}
	errOtherBrowser = &refusal{http.StatusForbidden, "This link was opened in another browser. Go on there, or ask for a new link."}
	errNoCookie     = &refusal{http.StatusForbidden, "Your browser did not bring back the cookie that this page gave it. Allow cookies for this site, and open the link again."}
	errStaleForm    = &refusal{http.StatusForbidden, "This form is not the one that you were shown last. Open the link again."}
	errNoAttempt    = &refusal{http.StatusBadRequest, "This answer was used before, has expired, or belongs to nothing that was begun here. Open your link again."}
	errNoChoice     = &refusal{http.StatusBadRequest, "Choose one of the accounts. Go back, and try again."}
)

// visit is a browser at an authorisation's page.
type visit struct {
	authorisationRow
	browser string
}

// visiting finds the authorisation of a link, for a browser that may go on with it.
func (s *service) visiting(ctx context.Context, r *http.Request) (v visit, err error) {
	id, ok := s.links.open(r.PathValue("link"))
	if !ok {
		return v, errNoLink
	}
	err = s.db.View(ctx, func(tx *sqldb.Tx) (err error) { v.authorisationRow, err = readAuthorisation(ctx, tx, id); return err })
	if isProblem(err, http.StatusNotFound) {
		return v, errNoLink
	}
	if err != nil {
		return v, err
	}
	v.browser = s.links.browserOf(r, id)
	return v, s.mayGoOn(v)
}

func (s *service) mayGoOn(v visit) error {
	switch {
	case v.status != finished && s.over(v.authorisationRow):
		return errOver
	case v.authorisationRow.browser != nil && !hmac.Equal(v.authorisationRow.browser, digest(v.browser)):
		return errOtherBrowser
	}
	return nil
}

// linkPage shows where an authorisation stands, and what comes next.
func (s *service) linkPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := s.visiting(ctx, r)
	if err != nil {
		return err
	}
	if v.browser == "" && v.status != finished {
		v.browser = s.links.mark(w, v.id)
	}
	return s.show(ctx, w, v)
}

func (s *service) show(ctx context.Context, w http.ResponseWriter, v visit) error {
	p, err := s.pageOf(ctx, v.authorisationRow)
	if err != nil {
		return err
	}
	p.FormToken = s.links.formToken(v.id, v.browser)
	switch v.status {
	case finished:
		if v.returnURL != "" {
			p.Onward, err = returnTo(v.returnURL, v.id)
		}
		return errors.Join(err, s.pages.write(w, http.StatusOK, "done", p))
	case choosing:
		accounts, err := s.offered(ctx, v.authorisationRow)
		if err != nil {
			return err
		}
		p.Accounts = accounts
		return s.pages.write(w, http.StatusOK, "choose", p)
	}
	if v.fault != "" {
		p.Fault = sentence(v.fault)
	}
	return s.pages.write(w, http.StatusOK, "ask", p)
}

// linkForm is what a browser does on an authorisation's page: begin, or choose.
func (s *service) linkForm(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v, err := s.visiting(ctx, r)
	switch {
	case err != nil:
		return err
	case v.browser == "":
		return errNoCookie
	}
	//bound:limit a form of an authorisation's page | {bytes} | 403
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if !hmac.Equal([]byte(r.PostFormValue("form")), []byte(s.links.formToken(v.id, v.browser))) {
		return errStaleForm
	}
	switch v.status {
	case finished:
		return s.show(ctx, w, v)
	case choosing:
		return s.choose(ctx, w, v, r.PostFormValue("account"))
	}
	return s.begin(ctx, w, v)
}

const maxForm = 16 << 10

// begin binds the authorisation to this browser, and sends it to the provider. Begun again, only the newest answer
// counts.
func (s *service) begin(ctx context.Context, w http.ResponseWriter, v visit) error {
	authoriser, app, err := s.authoriserOf(ctx, v.authorisationRow)
	if err != nil {
		return err
	}
	try := s.attempt(v.authorisationRow, rand.Text())
	address, err := authoriser.AuthoriseURL(app, try)
	if err != nil {
		return err
	}
	err = s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		r, err := lockAuthorisation(ctx, tx, v.id)
		if err != nil {
			return err
		}
		if err := s.mayGoOn(visit{r, v.browser}); err != nil {
			return err
		}
		if r.status == finished || r.status == choosing {
			return errStaleForm
		}
		r.status, r.fault, r.browser, r.state = pending, "", digest(v.browser), digest(try.State)
		return r.write(ctx, tx)
	})
	if err != nil {
		return err
	}
	p, err := s.pageOf(ctx, v.authorisationRow)
	p.Onward = address
	return errors.Join(err, s.pages.write(w, http.StatusOK, "leave", p))
}

func (s *service) attempt(r authorisationRow, state string) provider.Attempt {
	return provider.Attempt{
		State: state, Verifier: s.links.verifier(state), RedirectURL: s.publicURL + "/connect/callback/" + r.channel, Shop: r.shop,
	}
}

// callback is where a provider sends the browser back to. Who is not the browser that began, or brings an answer that
// nobody waits for, changes nothing.
func (s *service) callback(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	query := r.URL.Query()
	state := query.Get("state")
	var v visit
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return v.scan(tx.QueryRowContext(ctx, `SELECT `+authorisationColumns+` FROM authorisations WHERE state_hash = $1 AND channel = $2`,
			digest(state), r.PathValue("channel")).Scan)
	})
	if noRows(err) {
		return errNoAttempt
	}
	if err != nil {
		return err
	}
	v.browser = s.links.browserOf(r, v.id)
	if err := s.mayGoOn(v); err != nil {
		return err
	}
	if err := s.takeState(ctx, v.authorisationRow); err != nil {
		return err
	}
	// The answer is used up: that the browser leaves now must not end what was begun with it.
	//bound:exempt exchangeWithin says it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeWithin)
	defer cancel()
	authoriser, app, err := s.authoriserOf(ctx, v.authorisationRow)
	if err == nil {
		var accounts []provider.Account
		accounts, err = authoriser.Exchange(ctx, app, s.attempt(v.authorisationRow, state), query)
		switch {
		case err != nil:
		case len(accounts) == 1:
			err = s.complete(ctx, v.authorisationRow, accounts[0])
		default:
			err = s.offer(ctx, v.authorisationRow, accounts)
		}
	}
	if err := s.failed(ctx, v.authorisationRow, err); err != nil {
		return err
	}
	http.Redirect(w, r, s.links.path(v.id), http.StatusSeeOther) // so that the code is in nobody's history
	return nil
}

// takeState lets an answer be used once.
func (s *service) takeState(ctx context.Context, r authorisationRow) error {
	return s.db.Tx(ctx, func(tx *sqldb.Tx) error {
		taken, err := tx.ExecContext(ctx, `UPDATE authorisations SET state_hash = NULL WHERE id = $1 AND state_hash = $2`, r.id, r.state)
		if err != nil {
			return err
		}
		if n, err := taken.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return errNoAttempt
	})
}

// choose completes with one of the accounts that were offered.
func (s *service) choose(ctx context.Context, w http.ResponseWriter, v visit, externalID string) error {
	//bound:exempt exchangeWithin says it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeWithin)
	defer cancel()
	accounts, err := s.offered(ctx, v.authorisationRow)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.ExternalID != externalID {
			continue
		}
		if err := s.failed(ctx, v.authorisationRow, s.complete(ctx, v.authorisationRow, a)); err != nil {
			return err
		}
		w.Header().Set("Location", s.links.path(v.id))
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	return errNoChoice
}

// authoriserOf speaks for an authorisation's workspace, whose app must still be there.
func (s *service) authoriserOf(ctx context.Context, r authorisationRow) (provider.Authoriser, provider.App, error) {
	authoriser, ok := s.providers.Of(r.channel, nil).(provider.Authoriser)
	if !ok {
		return nil, provider.App{}, &provider.Fault{Code: "app_gone"}
	}
	app, err := s.openApp(as(ctx, r), r.channel, r.appID)
	if isProblem(err, http.StatusUnprocessableEntity) {
		err = &provider.Fault{Code: "app_gone"}
	}
	return authoriser, app, err
}

// as acts for the workspace that made the authorisation.
func as(ctx context.Context, r authorisationRow) context.Context {
	return access.With(ctx, access.Caller{WorkspaceID: r.workspaceID})
}

func isProblem(err error, status int) bool {
	var p *endpointx.Problem
	return errors.As(err, &p) && p.Status == status
}

// titleOf a channel, as people know it.
func titleOf(name string) string {
	features, _ := channel.Lookup(name)
	return features.Title
}
