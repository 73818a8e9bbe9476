// Tokenizes the programs (and a Markdown file) with the engine of VS Code, and checks what a few places are taken for.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const oniguruma = require("vscode-oniguruma");
const { INITIAL, Registry, parseRawGrammar } = require("vscode-textmate");

const here = path.join(__dirname, "..");
const programs = path.join(here, "..", "..", "programs");
const wasm = fs.readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm"));
const files = { "source.hw": "hw", "markdown.hw.codeblock": "markdown" };
const markdown = { scopeName: "text.html.markdown", patterns: [] };

const registry = new Registry({
  onigLib: oniguruma.loadWASM(wasm.buffer).then(() => ({
    createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
    createOnigString: (text) => new oniguruma.OnigString(text),
  })),
  loadGrammar: async (scope) => {
    if (scope === "text.html.markdown") return parseRawGrammar(JSON.stringify(markdown), "markdown.json");
    const file = path.join(here, "syntaxes", `${files[scope]}.tmLanguage.json`);
    return parseRawGrammar(fs.readFileSync(file, "utf8"), file);
  },
  getInjections: (scope) => (scope === "text.html.markdown" ? ["markdown.hw.codeblock"] : undefined),
});

/** All tokens of a text: what is written, and its innermost scope. */
function tokens(grammar, text) {
  let stack = INITIAL;
  const found = [];
  for (const line of text.split("\n")) {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, stack);
    stack = ruleStack;
    for (const each of tokens) {
      const written = line.slice(each.startIndex, each.endIndex);
      found.push({ written, scope: each.scopes.at(-1), scopes: each.scopes });
    }
  }
  return found;
}

async function main() {
  const grammar = await registry.loadGrammar("source.hw");
  const scopeOf = (text, written) => tokens(grammar, text).find((each) => each.written === written)?.scope;
  for (const file of fs.readdirSync(programs).filter((name) => name.endsWith(".hw"))) {
    const found = tokens(grammar, fs.readFileSync(path.join(programs, file), "utf8"));
    for (const { written, scope } of found) {
      assert(!written.trim() || scope !== "source.hw", `${file}: ${written} has no scope`);
      assert(!scope.startsWith("invalid"), `${file}: ${written} is ${scope}`);
    }
    assert(found.at(-1).scopes.length === 1, `${file} does not end at the top`);
  }
  assert.equal(scopeOf('sees user "x"', "user"), "support.type.role.hw");
  assert.equal(scopeOf('say "a {{ topic }}"', "topic"), "variable.other.interpolation.hw");
  assert.equal(scopeOf('say "a {{{{topic"', "{{{{"), "constant.character.escape.braces.hw");
  assert.equal(scopeOf('say "\\d"', "\\d"), "invalid.illegal.escape.hw");
  assert.equal(scopeOf('t = """\n "quoted" {{x}}\n"""\nworker', "worker"), "keyword.control.hw");
  assert.equal(scopeOf("on /a\\/b#c/ { stop }", "/a\\/b#c/"), "string.regexp.hw");
  assert.equal(scopeOf("program p(text: str)", "text"), "variable.parameter.hw");
  assert.equal(scopeOf("max 40 # tokens", "# tokens"), "comment.line.number-sign.hw");
  const page = await registry.loadGrammar("text.html.markdown");
  const found = tokens(page, "# T\n```hw\nrole r { max 9 tokens }\n```\nrole\n```python\nrole\n```\n");
  assert.deepEqual(
    found.filter((each) => each.written === "role").map((each) => each.scope),
    ["keyword.control.hw", "text.html.markdown", "text.html.markdown"],
  );
  console.log("the grammars are fine");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
