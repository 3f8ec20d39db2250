package charttest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// TestTheImage holds the Dockerfile to what it may and must do.
func TestTheImage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages := stagesOf(t, string(text))
	if len(stages) != 2 {
		t.Fatalf("%d stages, want 2", len(stages))
	}
	build, final := stages[0], stages[1]
	image := regexp.MustCompile(`golang:(\d+\.\d+)\.\d+-[a-z]+ AS build$`).FindStringSubmatch(build[0])
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	if image == nil || !strings.HasPrefix(string(work), "go "+image[1]+".") {
		t.Errorf("%q is not pinned to a version of go.work's Go", build[0])
	}
	if final[0] != "FROM scratch" {
		t.Errorf("the image begins with %q: a base would have to be pinned and kept up to date", final[0])
	}
	for instruction, want := range map[string]string{
		"USER ": "USER 65532:65532", "ENTRYPOINT ": `ENTRYPOINT ["/service"]`, "EXPOSE ": "EXPOSE 8080",
		"ENV ": "ENV TRIBUTARY_DATA=/var/lib/tributary/data",
	} {
		if !slices.Contains(final, want) || countPrefix(final, instruction) != 1 {
			t.Errorf("%s is not %q alone", instruction, want)
		}
	}
	made := strings.Join(build[1:], "\n")
	for _, line := range final[1:] {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "RUN ") || strings.HasPrefix(line, "ADD ") {
			t.Errorf("%q in an image without a shell", line)
		}
		if words[0] != "COPY" {
			continue
		}
		if from := words[len(words)-2]; words[1] != "--from=build" || from != "/etc/ssl/certs/ca-certificates.crt" && !strings.Contains(made, from) {
			t.Errorf("%q takes what the build does not make", line)
		}
	}
	for _, want := range []string{"CGO_ENABLED=0", "GOWORK=off", "-trimpath", "--mount=type=cache,target=/go/pkg/mod", "--mount=type=cache,target=/root/.cache/go-build", `"./cmd/$command"`} {
		if !strings.Contains(made, want) {
			t.Errorf("the build has no %s", want)
		}
	}
}

// TestTheImagesContextIsEnough: with nothing but what .dockerignore lets through, every service has a command that
// the Dockerfile finds, and all that it imports and embeds is there. Nothing else is sent.
func TestTheImagesContextIsEnough(t *testing.T) {
	context := buildContext(t)
	for _, service := range append(serviceNames(t), "standalone") {
		command := service
		if service == "standalone" {
			command = "tributary"
		}
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}}", "./cmd/"+command)
		cmd.Dir = filepath.Join(context, "services", service)
		cmd.Env = append(cmd.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
		if out := run(t, cmd); !strings.Contains(out, "tributary.dev/services/"+service+"/cmd/"+command) {
			t.Errorf("%s has no command %s", service, command)
		}
	}
}

// buildContext is a copy of what a build is sent.
func buildContext(t *testing.T) string {
	t.Helper()
	file, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	context := t.TempDir()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			if name == ".git" || name == ".services" || name == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if not, err := ignored.MatchesOrParentMatches(name); err != nil || not {
			return err
		}
		if slices.Contains([]string{"deploy", "docs", "charts"}, strings.Split(name, string(filepath.Separator))[0]) || strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s is sent to a build that does not need it", name)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(context, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return context
}

// stagesOf are a Dockerfile's instructions, one a line, by stage. It knows no more of the language than ours uses.
func stagesOf(t *testing.T, text string) (stages [][]string) {
	t.Helper()
	text = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		switch {
		case line == "":
		case word == "FROM":
			stages = append(stages, []string{line})
		case !slices.Contains([]string{"ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "ENTRYPOINT"}, word) || len(stages) == 0:
			t.Fatalf("%q is none of the instructions that this test knows", line)
		default:
			stages[len(stages)-1] = append(stages[len(stages)-1], line)
		}
	}
	return stages
}

func countPrefix(lines []string, prefix string) (n int) {
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}
