from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("stock", "0001_initial"), ("shop", "0002_total")]
    operations = [migrations.AddField("shelf", "label", models.CharField(default="", max_length=20))]
