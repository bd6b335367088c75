<?php

require __DIR__ . '/../vendor/autoload.php';

use Acme\Money\Money;
use App\Database;

if ($_SERVER['REQUEST_URI'] === '/orders') {
    header('Content-Type: text/plain');
    echo Database::open()->query('SELECT count(*) FROM orders')->fetchColumn(), " orders\n";
    exit;
}
$manifest = json_decode(file_get_contents(__DIR__ . '/build/manifest.json'), true);
error_log('rendered ' . $_SERVER['REQUEST_URI']);
?>
<!doctype html>
<link rel="stylesheet" href="/build/<?= $manifest['app.css'] ?>">
<h1>Rogue <?= getenv('HEROKU_RELEASE_VERSION') ?: 'v0' ?></h1>
<p><?= new Money(1999) ?> by <?= getenv('WEB_CONCURRENCY') ?> processes of PHP <?= PHP_MAJOR_VERSION ?></p>
