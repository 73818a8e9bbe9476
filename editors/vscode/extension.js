// Starts `hw lsp` and hands it to the editor. All that is known of the language is in the server.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

const INSTALL = "pip install 'hwlang[lsp]'";

/** @type {LanguageClient | undefined} */
let client;

function command() {
  return vscode.workspace.getConfiguration("hw").get("command", "hw");
}

async function start() {
  const server = { command: command(), args: ["lsp"] };
  const options = { documentSelector: [{ language: "hw" }], diagnosticCollectionName: "hw" };
  client = new LanguageClient("hw", "hw language server", server, options);
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    const choice = await vscode.window.showErrorMessage(
      `\`${command()} lsp\` did not start. Install it with \`${INSTALL}\`, or say in hw.command where it is.`,
      "Open Settings",
    );
    if (choice) await vscode.commands.executeCommand("workbench.action.openSettings", "hw.command");
  }
}

async function stop() {
  const running = client;
  client = undefined;
  if (running?.isRunning()) await running.stop();
}

async function restart() {
  await stop();
  await start();
}

/** Runs the file that is open, in a terminal and without a shell. */
async function run() {
  const document = vscode.window.activeTextEditor?.document;
  if (document?.languageId !== "hw" || !(await document.save())) return;
  const name = `run ${vscode.workspace.asRelativePath(document.uri)}`;
  const execution = new vscode.ProcessExecution(command(), ["run", document.uri.fsPath]);
  const scope = vscode.workspace.getWorkspaceFolder(document.uri) ?? vscode.TaskScope.Global;
  await vscode.tasks.executeTask(new vscode.Task({ type: "hw" }, scope, name, "hw", execution));
}

async function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("hw.restart", restart),
    vscode.commands.registerCommand("hw.run", run),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("hw.command")) void restart();
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
