package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/seal/canary"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// erased erases two people, one over Slack and one by phone, while their messages are in flight, spooled,
// dead-lettered and being sent, twice each at once, while the mesh is killed and another holder is away. All
// that was comes again afterwards. Then nothing of them may be left to read: in the API, in any file, nor, once
// the epoch has turned, with any key in what was copied before. Everybody else is held to the model.
func erased() scenario {
	return scenario{
		name: "erasure", harm: "people erased while their messages are in flight, spooled, dead-lettered and being sent, killed meanwhile",
		parts: []string{embedded, real}, small: 400, settings: swift, ground: ground{own: true},
		run: func(ctx context.Context, r *run) error {
			a := &attack{run: r, began: time.Now(), given: map[string]bool{}, messages: min(max(r.size/20, 40), 1000), away: time.Minute * time.Duration(min(r.size, 20_000)) / 20_000}
			a.anna, a.carla, a.ben = r.slackGuest(), r.phoneGuest(), r.slackGuest()
			if err := r.under(ctx, func(ctx context.Context) error { return a.erase(context.WithoutCancel(ctx)) }); err != nil {
				return err
			}
			return a.hold(ctx)
		},
	}
}

// attack is what is done to the two, and what was taken before.
type attack struct {
	*run
	began    time.Time
	messages int
	// away is how long the other holder is.
	away             time.Duration
	anna, carla, ben *guest

	conversations, contacts map[*guest]string
	subjects                []string
	bystander               string // Ben's words
	spooled                 map[string][]byte
	records                 []bus.Record
	old                     string // copy of the folder
	before                  *loot
	given                   map[string]bool // what the other holder has answered
}

// victims are those who are erased.
func (a *attack) victims() []*guest { return []*guest{a.anna, a.carla} }

// erase does it, while others write.
func (a *attack) erase(ctx context.Context) error {
	if err := a.meet(ctx); err != nil {
		return fmt.Errorf("at first: %w", err)
	}
	if err := a.deadLetter(ctx); err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	if err := a.spool(ctx); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	archive, err := proto.Marshal(&pb.Holder{Name: "archive", Holdings: []*pb.Holder_Holding{{Store: "letters", Category: pb.Category_CATEGORY_CONTENT}}})
	if err := errors.Join(err, a.produce(ctx, bus.Message{Topic: "holders", Key: "archive", Value: archive})); err != nil {
		return err
	}
	a.slack.Fail(func(int, string) standin.Failure { return standin.Failure{Delay: 200 * time.Millisecond} })
	for n := range 20 {
		if err := a.reply(ctx, a.anna, n); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
	}
	// What Twilio tells has no time: it is accepted before the request, and handled while that runs. What Slack
	// tells of before comes all the time.
	if err := atOnce(make([]int, a.messages/2), func(int) error { return a.carla.says(ctx, a.carla.words()) }); err != nil {
		return err
	}
	late := make([]map[string]any, a.messages/2)
	for i := range late {
		late[i] = standin.SlackMessage(a.anna.room, "im", a.anna.user, a.anna.stamp(), "", a.anna.words())
	}
	var flying sync.WaitGroup
	var flown error
	told := time.Now()
	flying.Go(func() {
		flown = atOnce(late, func(event map[string]any) error { return a.anna.tellOf(ctx, told, event) })
	})
	ids, err := a.ask(ctx)
	if err != nil {
		return err
	}
	for range 2 { // the registry restarts, and everything else with it
		if err := pause(ctx, time.Duration(a.rand.IntN(1500))*time.Millisecond); err != nil {
			return err
		}
		a.Kill()
		if err := a.Start(ctx); err != nil {
			return err
		}
	}
	if err := a.withoutArchive(ctx, ids); err != nil {
		return err
	}
	flying.Wait()
	if flown != nil {
		return flown
	}
	for _, id := range ids {
		if err := a.answered(ctx, id); err != nil {
			return err
		}
	}
	a.slack.Fail(nil)
	return a.comeAgain(ctx)
}

// meet has everybody write once.
func (a *attack) meet(ctx context.Context) error {
	a.conversations, a.contacts = map[*guest]string{}, map[*guest]string{}
	for _, g := range []*guest{a.anna, a.carla, a.ben} {
		words := g.words()
		if err := g.says(ctx, words); err != nil {
			return err
		}
		var err error
		if a.conversations[g], a.contacts[g], err = a.arrived(ctx, words); err != nil {
			return err
		}
		if g == a.ben {
			a.bystander = words
		}
		subject, err := a.column(ctx, "conversation", "SELECT subject_id FROM contacts WHERE id = '"+a.contacts[g]+"'")
		if err != nil {
			return err
		}
		a.subjects = append(a.subjects, subject...)
	}
	return nil
}

// deadLetter has a quarter of the victims' messages dead-lettered.
func (a *attack) deadLetter(ctx context.Context) error {
	if err := a.refuse(ctx, true, a.conversations[a.anna], a.conversations[a.carla]); err != nil {
		return err
	}
	for _, g := range a.victims() {
		if err := atOnce(make([]int, a.messages/4), func(int) error { return g.says(ctx, g.words()) }); err != nil {
			return err
		}
	}
	if err := mesh.Eventually(ctx, a.patience(), func() error {
		n, err := a.Metric(ctx, "tributary_dead_letters_total")
		if err == nil && n < float64(2*(a.messages/4)) {
			err = fmt.Errorf("%.0f are dead-lettered", n)
		}
		return err
	}); err != nil {
		return err
	}
	return a.refuse(ctx, false)
}

// spool has another quarter in the spool of a mesh that is killed; then everything is copied.
func (a *attack) spool(ctx context.Context) error {
	mend, err := a.cutRegistry(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, 1200*time.Millisecond); err != nil { // what caches hold ends
		return err
	}
	for _, g := range a.victims() {
		if err := atOnce(make([]int, a.messages/4), func(int) error { return g.says(ctx, g.words()) }); err != nil {
			return err
		}
	}
	a.Kill()
	if a.spooled, err = segments(a.world.data); err != nil {
		return err
	}
	if len(a.spooled) < 2 {
		return fmt.Errorf("%d segments were spooled", len(a.spooled))
	}
	if err := mend(); err != nil {
		return err
	}
	if a.records, err = records(ctx, a.Mesh); err != nil {
		return err
	}
	if a.before, err = takeLoot(ctx, a.Mesh, a.world.data, a.subjects...); err != nil {
		return err
	}
	if !a.OneProcess() {
		return a.Start(ctx)
	}
	a.old = a.world.data + "-old"
	if err := os.CopyFS(a.old, os.DirFS(a.world.data)); err != nil {
		return err
	}
	return a.Start(ctx)
}

func (a *attack) reply(ctx context.Context, g *guest, n int) error {
	text := g.words()
	a.besides[text] = true
	return mesh.Eventually(ctx, 20*time.Second, func() error {
		status, body, err := a.api.RawIdempotent(ctx, "POST", "/v1/conversations/"+a.conversations[g]+"/messages", mesh.Object{"text": text}, fmt.Sprintf("reply-%d", n))
		if err == nil && status != http.StatusCreated {
			err = fmt.Errorf("%d: %s", status, body)
		}
		return err
	})
}

// ask has each of the two erased, twice at once: it is one request.
func (a *attack) ask(ctx context.Context) (ids []string, err error) {
	for _, g := range a.victims() {
		var both [2]string
		var errs [2]error
		var asking sync.WaitGroup
		for n := range both {
			asking.Go(func() { both[n], errs[n] = a.world.erase(ctx, a.contacts[g]) })
		}
		asking.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		if both[0] != both[1] {
			a.broken("two requests at once are two: %v", both)
		}
		ids = append(ids, both[0])
	}
	return ids, nil
}

// withoutArchive waits while the other holder is away: nothing is completed.
func (a *attack) withoutArchive(ctx context.Context, ids []string) error {
	for end := time.Now().Add(a.away); time.Now().Before(end); {
		for _, id := range ids {
			r, err := a.erasure(ctx, id)
			if err != nil {
				return err
			}
			if r.Text("status") == "completed" {
				a.broken("a request is completed without a holder's answer")
				return nil
			}
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// answered has the other holder answer until a request is completed.
func (a *attack) answered(ctx context.Context, id string) error {
	return mesh.Eventually(ctx, 2*time.Minute, func() error {
		if err := a.answer(ctx); err != nil {
			return err
		}
		r, err := a.erasure(ctx, id)
		if err == nil && r.Text("status") != "completed" {
			err = fmt.Errorf("the request is %s (%s) %s", r.Text("status"), r.Text("step"), r.Text("failed"))
		}
		return err
	})
}

// answer answers for the other holder whatever it was commanded and has not answered yet: it stores nothing.
func (a *attack) answer(ctx context.Context) error {
	read, err := records(ctx, a.Mesh)
	if err != nil {
		return err
	}
	var acks []bus.Message
	for _, r := range read {
		c := &pb.PrivacyCommand{}
		if r.Topic != "privacy.commands" || proto.Unmarshal(r.Value, c) != nil || a.given[c.Id] {
			continue
		}
		ack, err := proto.Marshal(&pb.PrivacyAck{CommandId: c.Id, RequestId: c.RequestId, Holder: "archive", SubjectId: c.SubjectId, Kind: c.Kind, AtUs: time.Now().UnixMicro()})
		if err != nil {
			return err
		}
		acks = append(acks, bus.Message{Topic: "privacy.acks", Key: c.RequestId, Value: ack})
		a.given[c.Id] = true
	}
	return a.produce(ctx, acks...)
}

// comeAgain brings back all that was: webhooks, dead letters, and what lay in the spools.
func (a *attack) comeAgain(ctx context.Context) error {
	var again []bus.Message
	for _, r := range a.records {
		if m, ok := revived(r); ok {
			again = append(again, m)
		}
	}
	if len(again) < 2*(a.messages/4) {
		return fmt.Errorf("%d dead letters were copied", len(again))
	}
	// Webhooks first: Twilio's, which have no time, make subjects anew while the dead letters' ids were never seen.
	if err := errors.Join(a.anna.again(ctx), a.carla.again(ctx), a.Drained(ctx), a.produce(ctx, again...)); err != nil {
		return err
	}
	a.Kill()
	return errors.Join(respool(a.spooled), a.Start(ctx))
}

// hold wants nothing of the two to be left.
func (a *attack) hold(ctx context.Context) error {
	needles := slices.Concat(a.anna.needles, a.carla.needles)
	if err := mesh.Eventually(ctx, time.Minute, func() error {
		left, err := a.Metric(ctx, "tributary_spool_bytes", `part="segments"`)
		if err == nil && left > 0 {
			err = fmt.Errorf("%.0f bytes are in the spool", left)
		}
		return errors.Join(err, a.Drained(ctx))
	}); err != nil {
		return err
	}
	if err := a.shows(ctx, needles); errors.Is(err, errShown) {
		a.broken("%v", err)
	} else if err != nil {
		return err
	}
	for _, g := range a.victims() {
		for _, path := range []string{"/v1/contacts/" + a.contacts[g], "/v1/conversations/" + a.conversations[g]} {
			if status, _, err := a.api.Raw(ctx, "GET", path, nil); err != nil || status != http.StatusGone {
				a.broken("%s is answered %d (%v)", path, status, err)
			}
		}
	}
	// Twilio's old webhooks carry no time, and have made a subject that nobody stores anything for: it is swept.
	if err := a.restarted(ctx, map[string]string{"TRIBUTARY_REGISTRY_SWEEP_AFTER": "1s"}); err != nil {
		return err
	}
	if err := mesh.Eventually(ctx, time.Minute, func() error {
		if err := a.answer(ctx); err != nil {
			return err
		}
		n, err := a.Metric(ctx, "tributary_registry_swept_subjects_total")
		if err == nil && n < 1 {
			err = errors.New("nothing is swept")
		}
		return err
	}); err != nil {
		return err
	}
	if err := a.turn(ctx); err != nil {
		return err
	}
	if err := a.Stop(ctx); err != nil {
		return err
	}
	if err := a.scan(needles); err != nil {
		return err
	}
	now, err := takeLoot(ctx, a.Mesh, a.world.data, a.subjects...)
	if err != nil {
		return err
	}
	keys, err := a.keyring(ctx, now, a.before)
	if err != nil {
		return err
	}
	for when, taken := range map[string]*loot{"copied before": a.before, "stored today": now} {
		opened := taken.opens(keys, append(slices.Clone(needles), a.bystander)...)
		if !opened[a.bystander] {
			a.broken("of what was %s not even a bystander's words open: the search is at fault", when)
		}
		if delete(opened, a.bystander); len(opened) > 0 {
			a.broken("of what was %s this opens: %v", when, slices.Collect(maps.Keys(opened)))
		}
	}
	a.say("erasure: %d keys tried on %d runs of bytes, %d objects and %d spool entries of before", len(keys.all), len(a.before.sealed), len(a.before.objects), len(a.before.spooled))
	if err := errors.Join(a.onOldCopies(ctx, needles), a.Start(ctx)); err != nil {
		return err
	}
	// The bystander goes too: the model knows nobody but the traffic's people.
	id, err := a.world.erase(ctx, a.contacts[a.ben])
	if err != nil {
		return err
	}
	return a.answered(ctx, id)
}

// scan looks for the two in every file that the mesh has written.
func (a *attack) scan(needles []string) error {
	scanner := canary.New(append(slices.Clone(needles), a.sms)...)
	for _, root := range a.Written() {
		hits, scanned, err := scanner.TreeSince(root, a.began.Add(-time.Minute))
		if err != nil {
			return err
		}
		control := false
		for _, hit := range hits {
			if hit.Needle == a.sms {
				control = true
				continue
			}
			a.broken("found: %s", hit)
		}
		if !control {
			a.broken("not even what is no secret is found in %s", root)
		}
		a.say("erasure: %d needles looked for in %d files, %d KiB", len(needles), scanned.Files, scanned.Bytes>>10)
	}
	return nil
}

// onOldCopies starts meshes on what was copied before, beside the key store, the root key and the registry of
// today: they show nothing of the two, and a bystander as before.
func (a *attack) onOldCopies(ctx context.Context, needles []string) error {
	if !a.OneProcess() {
		return nil // its parts are not files
	}
	for _, old := range [][]string{{"conversation"}, {"conversation", "broker", "bucket", "slack", "sms"}} {
		mixed := a.world.data + "-mixed"
		if err := os.CopyFS(mixed, os.DirFS(a.world.data)); err != nil {
			return err
		}
		for _, folder := range old {
			if err := errors.Join(os.RemoveAll(filepath.Join(mixed, folder)), os.CopyFS(filepath.Join(mixed, folder), os.DirFS(filepath.Join(a.old, folder)))); err != nil {
				return err
			}
		}
		if err := a.look(ctx, mixed, old, needles); err != nil {
			return fmt.Errorf("old %v: %w", old, err)
		}
		if err := os.RemoveAll(mixed); err != nil {
			return err
		}
	}
	return os.RemoveAll(a.old)
}

// look starts a mesh on a folder and looks at what it shows.
func (a *attack) look(ctx context.Context, folder string, old []string, needles []string) error {
	if err := os.Chmod(filepath.Join(folder, "api-key"), 0o600); err != nil { // a copy is the reader's
		return err
	}
	settings := maps.Clone(swift)
	settings["TRIBUTARY_CONVERSATION_RESTORED"] = "true"
	maps.Copy(settings, map[string]string{"TRIBUTARY_SLACK_API_URL": a.slack.APIURL(), "TRIBUTARY_SMS_TWILIO_URL": a.twilio.URL})
	m, err := mesh.New(mesh.Config{Bin: a.bin, Data: folder, Settings: settings})
	if err != nil {
		return err
	}
	defer m.Kill()
	if err := m.Start(ctx); err != nil {
		return err
	}
	w := &world{Mesh: m, data: folder}
	if w.api, err = m.Client(); err != nil {
		return err
	}
	if _, _, err := w.arrived(ctx, a.bystander); err != nil {
		a.broken("beside an old %v: %v", old, err)
	}
	if err := w.shows(ctx, needles); errors.Is(err, errShown) {
		a.broken("beside an old %v: %v", old, err)
	} else if err != nil {
		return err
	}
	return nil
}
