// A command of Yarn 2 and later that removes development dependencies, of all packages of a workspace. `yarn workspaces
// focus --production` does so in Yarn 4 alone, and runs the app's install scripts again.
module.exports = {
  name: "prune-development-dependencies",
  factory: (load) => {
    const { Command } = load("clipanion");
    const { Cache, Configuration, Project, StreamReport } = load("@yarnpkg/core");

    class Prune extends Command {
      async execute() {
        const { cwd, plugins, stdout } = this.context;
        const configuration = await Configuration.find(cwd, plugins);
        const { project } = await Project.find(configuration, cwd);
        const cache = await Cache.find(configuration);
        await project.restoreInstallState({ restoreResolutions: false });
        for (const workspace of project.workspaces) {
          workspace.manifest.devDependencies.clear();
        }
        const report = await StreamReport.start({ configuration, stdout, includeLogs: true }, async (report) => {
          // Yarn 2 knows the second name alone. package.json and yarn.lock stay as they are.
          await project.install({ cache, report, persistProject: false, mode: "skip-build", skipBuild: true });
          await project.cacheCleanup({ cache, report });
          // With it `yarn run` knows what is there.
          await project.persistInstallStateFile();
        });
        return report.exitCode();
      }
    }

    Prune.paths = [["shipway", "prune"]];
    if (typeof Command.Path === "function") {
      // Before Yarn 4 a decorator.
      Command.Path("shipway", "prune")(Prune.prototype, "execute");
    }
    return { commands: [Prune] };
  },
};
