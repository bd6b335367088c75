<?php

namespace App;

use PDO;

final class Database
{
    /** The add-on's database, or a file that lasts as long as the dyno. */
    public static function open(): PDO
    {
        $url = getenv('DATABASE_URL');
        if ($url === false || $url === '') {
            return new PDO('sqlite:/tmp/rogue.sqlite', options: [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
        }
        $parts = parse_url($url);
        $dsn = sprintf('pgsql:host=%s;port=%d;dbname=%s;sslmode=require', $parts['host'], $parts['port'], ltrim($parts['path'], '/'));
        return new PDO($dsn, $parts['user'], urldecode($parts['pass']), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    }

    /** Runs what database/migrations has and the database has not. */
    public static function migrate(): void
    {
        $database = self::open();
        $database->exec('CREATE TABLE IF NOT EXISTS migrations (migration TEXT PRIMARY KEY)');
        $done = $database->query('SELECT migration FROM migrations')->fetchAll(PDO::FETCH_COLUMN);
        foreach (glob(__DIR__ . '/../database/migrations/*.php') as $file) {
            $name = basename($file, '.php');
            if (in_array($name, $done, true)) {
                continue;
            }
            $database->beginTransaction();
            $database->exec(require $file);
            $database->prepare('INSERT INTO migrations VALUES (?)')->execute([$name]);
            $database->commit();
            echo "$name ... DONE\n";
        }
    }
}
