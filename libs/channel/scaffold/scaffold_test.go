package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestANewChannelBuildsAndIsToldWhatItOwes in a copy of the repository, built from the repository's own packages, so
// that nothing is compiled twice but what the new channel's name is in.
func TestANewChannelBuildsAndIsToldWhatItOwes(t *testing.T) {
	repository, err := filepath.Abs("../../..")
	require.NoError(t, err)
	root := filepath.Join(t.TempDir(), "tributary")
	copied(t, repository, root)

	require.NoError(t, scaffold(root, "pigeon"))
	generate := filepath.Join(t.TempDir(), "generate")
	run(t, repository, nil, "go", "build", "-o", generate, "./libs/channel/generate")
	run(t, root, nil, generate)
	for file, holds := range map[string]string{
		"go.work":                             "\t./services/pigeon\n",
		"services/standalone/services_gen.go": " pigeon.Service",
		"services/standalone/go.mod":          "tributary.dev/services/pigeon => ../pigeon",
		"libs/channel/features_gen.go":        `Name: "pigeon", Title: "Pigeon"`,
		".golangci.yml":                       "allow: [tributary.dev/services/pigeon]",
		"README.md":                           "[Pigeon](services/pigeon/README.md)",
	} {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		require.Contains(t, string(text), holds, file)
	}

	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(repository, "libs/channel/features_gen.go"): filepath.Join(root, "libs/channel/features_gen.go"),
	}})
	require.NoError(t, err)
	overlaid, work := filepath.Join(root, "overlay.json"), filepath.Join(root, "own.work")
	require.NoError(t, os.WriteFile(overlaid, overlay, 0o600))
	uses := "go 1.26.0\nuse ./services/pigeon\n"
	for _, module := range []string{"libs", "proto"} {
		at := filepath.Join(repository, module)
		uses += "use " + at + "\nreplace tributary.dev/" + module + " v0.0.0 => " + at + "\n"
	}
	require.NoError(t, os.WriteFile(work, []byte(uses), 0o600))
	pigeon := filepath.Join(root, "services", "pigeon")
	own := []string{"GOWORK=" + work}
	run(t, pigeon, own, "go", "vet", "-overlay", overlaid, "./...") // its command too
	told := run(t, pigeon, own, "go", "test", "-count=1", "-overlay", overlaid, ".")
	for _, line := range []string{
		"--- FAIL: TestConformance/signatures", "holds   declared features are what it implements", "TO DO   signatures",
		"waits   a sample becomes an event (first: signatures)", "spared  a text is sent (no channel.Sender)",
	} {
		require.Contains(t, told, line)
	}
	require.Equal(t, 1, strings.Count(told, "TO DO"), "one thing at a time: %s", told)

	require.ErrorContains(t, scaffold(root, "pigeon"), "services/pigeon is there already")
	require.FileExists(t, filepath.Join(pigeon, "service.go"), "and is left as it is")
}

func TestANameThatCanBeNoChannelIsRefused(t *testing.T) {
	for _, name := range []string{"", "Telegram", "x", "9lives", "voice-mail", "voice_mail", "../sms", "func", "string", "app", "channel", strings.Repeat("a", 21)} {
		require.ErrorContains(t, scaffold(t.TempDir(), name), "NAME is", name)
	}
	require.ErrorContains(t, scaffold(t.TempDir(), "telegram"), "not the repository's root")
}

// copied has what the generator reads and writes, and the modules that a new one stands beside.
func copied(t *testing.T, from, to string) {
	without := []string{".git", ".services", ".tributary", "bin", "node_modules"}
	require.NoError(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(without, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o644)
	}))
}

// run gives what a command tells. Of go test a failure is told too.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), &out, &out
	if err := cmd.Run(); err != nil && !slices.Contains(args, "test") {
		require.NoError(t, err, "%s %s:\n%s", name, strings.Join(args, " "), out.String())
	}
	return out.String()
}
